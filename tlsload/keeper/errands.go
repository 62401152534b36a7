package keeper

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/rs/zerolog"

	"sallyport/tlsload/keywire"
)

// ErrLost means that the registrar has ended, and what it was asked for with it. Another one
// is there soon.
var errLost = errors.New("the registrar has ended; another one is asked")

// A refusal is why nothing was issued, in the words of the CA or of who tried to reach it.
type refusal struct {
	status    int    // of HTTP; 0: the CA was not reached, or gave no such answer
	challenge string // that failed: "http-01"
	ca        string // URL of the directory
	problem   string // "urn:ietf:params:acme:error:rateLimited"
	text      string
}

func (r *refusal) Error() string {
	if r.problem == "" {
		return r.text
	}
	return fmt.Sprintf("%s (%s, HTTP %d)", r.text, r.problem, r.status)
}

// errands are what the registrar is asked for, and what it wants of the cores meanwhile.
type errands struct {
	line  *keywire.Line
	log   zerolog.Logger
	cores *Keeper

	mu sync.Mutex

	heard   chan struct{} // closed when the first registrar has begun
	epoch   uint64        // what answers carry; another since the registrar is another
	id      uint64        // of the last one
	pending map[uint64]*errand
}

// An errand is under way.
type errand struct {
	name   string      // that an order is for; "" for a question
	answer chan result // has one place
}

// A result is how an errand ended.
type result struct {
	chain  [][]byte
	window keywire.Window
	err    error
}

func newErrands(link int, cores *Keeper, log zerolog.Logger) (*errands, error) {
	line, err := keywire.NewLine(link, "registrar")
	if err != nil {
		return nil, err
	}
	return &errands{line: line, log: log, cores: cores, epoch: newEpoch(), heard: make(chan struct{}), pending: map[uint64]*errand{}}, nil
}

func newEpoch() uint64 {
	var epoch [8]byte
	rand.Read(epoch[:]) // never fails, says its documentation
	return binary.BigEndian.Uint64(epoch[:])
}

// now is the epoch that answers carry.
func (e *errands) now() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.epoch
}

// loop takes what the registrar says, until the link is closed by Close, or shut.
func (e *errands) loop() {
	if err := e.line.Send(keywire.Begun{Epoch: e.now()}.Append(nil)); err != nil {
		e.log.Error().Err(err).Msg("registrar not reached")
		return
	}
	packet := make([]byte, keywire.ErrandBytesMax)
	for {
		n, err := e.line.Receive(packet)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, keywire.ErrOversize):
		case err != nil || n == 0:
			e.log.Error().AnErr("error", err).Str("hint", "no certificate is obtained any more: start sallyport again").Msg("link to the registrar lost")
			return
		default:
			err = e.take(packet[:n])
		}
		if err != nil {
			e.log.Warn().Err(err).Msg("registrar packet dropped")
		}
	}
}

// take is one packet. The registrar talks to strangers: nothing of it is believed beyond
// what it is for.
func (e *errands) take(packet []byte) error {
	op, epoch, ok := keywire.Head(packet)
	switch {
	case !ok:
		return keywire.ErrMalformed
	case op == keywire.OpBegun:
		return e.lost()
	case epoch != e.now():
		return nil // for the keeper before this one, or from the registrar before that one
	}
	switch op {
	case keywire.OpIssued:
		m, err := keywire.DecodeIssued(packet)
		if err != nil {
			return err
		}
		r := result{}
		for _, der := range m.Chain {
			r.chain = append(r.chain, bytes.Clone(der))
		}
		e.finish(m.ID, r)
	case keywire.OpWindow:
		m, err := keywire.DecodeWindow(packet)
		if err != nil {
			return err
		}
		e.finish(m.ID, result{window: m})
	case keywire.OpNotIssued:
		m, err := keywire.DecodeNotIssued(packet)
		if err != nil {
			return err
		}
		e.finish(m.ID, result{err: &refusal{
			status: int(m.Status), challenge: string(m.Challenge), ca: string(m.CA),
			problem: string(m.Problem), text: strings.ToValidUTF8(string(m.Text), "?"),
		}})
	case keywire.OpPresent:
		return e.present(packet)
	case keywire.OpRetract:
		m, err := keywire.DecodeRetract(packet)
		if err != nil {
			return err
		}
		e.cores.changes.do(func() { e.cores.withdraw(m.Number) })
	default:
		return fmt.Errorf("keeper: operation %d is not for a keeper", op)
	}
	return nil
}

// lost ends all that the registrar before this one was asked for. What still waits in the
// link of that is void by another epoch.
func (e *errands) lost() error {
	e.cores.changes.do(e.cores.withdrawAll)
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.heard:
	default:
		close(e.heard)
	}
	e.epoch = newEpoch()
	err := e.line.Send(keywire.Begun{Epoch: e.epoch}.Append(nil))
	for id, one := range e.pending {
		one.answer <- result{err: errLost}
		delete(e.pending, id)
	}
	return err
}

// finish gives an answer to who waits for it, if somebody does.
func (e *errands) finish(id uint64, r result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if one, waits := e.pending[id]; waits {
		one.answer <- r
		delete(e.pending, id)
	}
}

// order asks for a certificate that follows another one, if replaces is any, and waits for it.
func (e *errands) order(ctx context.Context, name string, attempts int, request, replaces []byte) ([][]byte, error) {
	r := e.run(ctx, name, func(epoch, id uint64) []byte {
		return keywire.Order{Epoch: epoch, ID: id, Attempts: uint32(attempts), Request: request, Replaces: replaces}.Append(nil)
	})
	return r.chain, r.err
}

// ask asks when a certificate should be renewed, and waits for the answer.
func (e *errands) ask(ctx context.Context, leaf []byte) (keywire.Window, error) {
	r := e.run(ctx, "", func(epoch, id uint64) []byte {
		return keywire.Ask{Epoch: epoch, ID: id, Leaf: leaf}.Append(nil)
	})
	return r.window, r.err
}

func (e *errands) run(ctx context.Context, name string, packet func(epoch, id uint64) []byte) result {
	one := &errand{name: name, answer: make(chan result, 1)}
	e.mu.Lock()
	e.id++
	id := e.id
	e.pending[id] = one
	message := packet(e.epoch, id)
	e.mu.Unlock()
	if err := e.line.Send(message); err != nil {
		e.finish(id, result{err: fmt.Errorf("registrar not reached: %w", err)})
	}
	select {
	case r := <-one.answer:
		return r
	case <-ctx.Done():
		e.finish(id, result{})
		return result{err: fmt.Errorf("the registrar has not answered: %w", ctx.Err())}
	}
}

// present has cores answer a challenge: one of a name that is being ordered, and with
// nothing but a proof.
func (e *errands) present(packet []byte) error {
	m, err := keywire.DecodePresent(packet)
	if err != nil {
		return err
	}
	e.mu.Lock()
	one, known := e.pending[m.ID]
	e.mu.Unlock()
	if !known || one.name == "" || one.name != string(m.Name) {
		return fmt.Errorf("keeper: a challenge for %q, which is not ordered", m.Name)
	}
	if !isProof(m.Token, m.Proof) {
		return fmt.Errorf("keeper: a challenge for %q without the form of one", m.Name)
	}
	p := &proof{message: keywire.Challenge{
		Number: m.Number, Kind: m.Kind, Name: bytes.Clone(m.Name), Token: bytes.Clone(m.Token), Proof: bytes.Clone(m.Proof),
	}}
	if m.Kind == keywire.TLSALPN01 {
		if err := p.certify(); err != nil {
			return err
		}
	}
	number := m.Number
	p.answered = func() { go e.presented(number) } // which may wait, as the thread of Serve must not
	e.cores.changes.do(func() {
		if !e.cores.open(p) {
			e.log.Error().Str("host", one.name).Msg("too many challenges open")
		}
	})
	return nil
}

// presented ends when the registrar has been told.
func (e *errands) presented(number uint32) {
	if err := e.line.Send(keywire.Presented{Epoch: e.now(), Number: number}.Append(nil)); err != nil {
		e.log.Error().Err(err).Msg("registrar not told")
	}
}

// isProof reports whether a proof has its form: "A key authorization is a string that
// concatenates the token for the challenge with a key fingerprint, separated by a "."
// character" RFC 8555, section 8.1. Whatever cores are to say by HTTP is that.
func isProof(token, proof []byte) bool {
	thumbprint, found := bytes.CutPrefix(proof, append(bytes.Clone(token), '.'))
	return found && len(thumbprint) == 43 && isBase64URL(token) && isBase64URL(thumbprint)
}

func isBase64URL(text []byte) bool {
	for _, c := range text {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(text) > 0
}

// certify makes the certificate that a challenge by TLS is answered with, and its key,
// which stays here.
func (p *proof) certify() error {
	name := string(p.message.Name)
	c := acme.Challenge{Identifier: acme.Identifier{Type: "dns", Value: name}, KeyAuthorization: string(p.message.Proof)}
	if address, err := netip.ParseAddr(name); err == nil {
		c.Identifier.Type, p.message.Name = "ip", []byte(reverseName(address))
	}
	made, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return fmt.Errorf("keeper: certificate of a challenge: %w", err)
	}
	key, ok := made.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("keeper: key of a challenge is a %T", made.PrivateKey)
	}
	p.pair = &pair{chain: made.Certificate, leaf: made.Leaf, key: key}
	p.message.Token, p.message.Proof = nil, made.Certificate[0]
	return nil
}

// reverseName is by what name an address is asked for in a handshake, which carries no
// address: "the SNI extension MUST contain only a single ... "IN-ADDR.ARPA" or "IP6.ARPA""
// name. RFC 8738, section 6.
func reverseName(address netip.Addr) string {
	var name strings.Builder
	bytes := address.AsSlice()
	for i := len(bytes) - 1; i >= 0; i-- {
		if address.Is4() {
			name.WriteString(strconv.Itoa(int(bytes[i])) + ".")
		} else {
			name.WriteString(strconv.FormatUint(uint64(bytes[i]&15), 16) + "." + strconv.FormatUint(uint64(bytes[i]>>4), 16) + ".")
		}
	}
	if address.Is4() {
		return name.String() + "in-addr.arpa"
	}
	return name.String() + "ip6.arpa"
}
