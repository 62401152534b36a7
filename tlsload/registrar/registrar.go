package registrar

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

const (
	// errandsMax bounds what is under way at the same time; the keeper sends fewer.
	errandsMax = 16
	// orderTime is for one order, from the first word to the CA to the certificate.
	orderTime = 5 * time.Minute
	// askTime is for one question.
	askTime = time.Minute
	// presentTime is for the cores to have a challenge.
	presentTime = 20 * time.Second
)

// A Registrar runs the errands of one keeper after the other.
type Registrar struct {
	line     *keywire.Line
	issuer   *issuer
	log      zerolog.Logger
	errands  chan struct{} // a place for each that is under way
	finished sync.WaitGroup

	mu sync.Mutex

	epoch   uint64 // of the keeper
	life    context.Context
	end     context.CancelFunc       // of all errands of that keeper
	orders  map[string]*order        // the one under way, by name
	number  uint32                   // of the last challenge
	waiting map[uint32]chan struct{} // closed when cores have the challenge
}

// Secrets are what a Registrar has besides its plan.
type Secrets struct {
	Roots  *x509.CertPool  // whom to trust as the CA
	KeyMAC string          // of the account given out elsewhere, base64url; "" without one
	Folder *sockets.Folder // for the account; nil: in memory
}

// An order is under way.
type order struct {
	id   uint64
	over chan struct{} // closed when it is
}

// New takes over the descriptor of the link to the keeper.
func New(plan conf.Registrar, secrets Secrets, link int, log zerolog.Logger) (*Registrar, error) {
	line, err := keywire.NewLine(link, "keeper")
	if err != nil {
		return nil, err
	}
	r := &Registrar{
		line: line, log: log,
		errands: make(chan struct{}, errandsMax),
		orders:  map[string]*order{},
		waiting: map[uint32]chan struct{}{},
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.issuer = newIssuer(plan, secrets, r)
	return r, nil
}

// Serve runs errands until ctx is done, or the link has ended.
func (r *Registrar) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.line.Close() }) // which ends receive
	defer stop()
	defer r.issuer.close()
	defer r.finished.Wait()
	defer r.abandon(0)
	if err := r.line.Send(keywire.Begun{}.Append(nil)); err != nil {
		return fmt.Errorf("registrar: link to the keeper: %w", err)
	}
	packet := make([]byte, keywire.ErrandBytesMax)
	for {
		n, err := r.line.Receive(packet)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, keywire.ErrOversize):
		case err != nil && !errors.Is(err, os.ErrClosed):
			return fmt.Errorf("registrar: link to the keeper: %w", err)
		case n == 0:
			return errors.New("registrar: link to the keeper: shut")
		default:
			err = r.take(packet[:n])
		}
		if err != nil {
			r.log.Error().Err(err).Msg("keeper packet dropped")
		}
	}
}

// take is one packet of the keeper's.
func (r *Registrar) take(packet []byte) error {
	op, epoch, ok := keywire.Head(packet)
	if !ok {
		return keywire.ErrMalformed
	}
	r.adopt(epoch)
	switch op {
	case keywire.OpBegun:
		_, err := keywire.DecodeBegun(packet)
		return err
	case keywire.OpOrder:
		m, err := keywire.DecodeOrder(packet)
		if err != nil {
			return err
		}
		m.Request, m.Replaces = bytes.Clone(m.Request), bytes.Clone(m.Replaces)
		r.begin(m.ID, func(ctx context.Context) []byte { return r.order(ctx, m) })
	case keywire.OpAsk:
		m, err := keywire.DecodeAsk(packet)
		if err != nil {
			return err
		}
		m.Leaf = bytes.Clone(m.Leaf)
		r.begin(m.ID, func(ctx context.Context) []byte { return r.ask(ctx, m) })
	case keywire.OpPresented:
		m, err := keywire.DecodePresented(packet)
		if err != nil {
			return err
		}
		r.presented(m.Number)
	default:
		return fmt.Errorf("registrar: operation %d is not for a registrar", op)
	}
	return nil
}

// adopt serves a keeper from now on; what another one has asked for is given up.
func (r *Registrar) adopt(epoch uint64) {
	r.mu.Lock()
	same := r.epoch == epoch
	r.mu.Unlock()
	if !same {
		r.abandon(epoch)
	}
}

func (r *Registrar) abandon(epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	r.epoch = epoch
	r.life, r.end = context.WithCancel(context.Background())
}

// begin runs an errand in a goroutine of its own, which ends with it, or with the keeper
// that has asked, and sends its answer. Where there is no place for it, that is the answer.
func (r *Registrar) begin(id uint64, errand func(context.Context) []byte) {
	r.mu.Lock()
	epoch, life := r.epoch, r.life
	r.mu.Unlock()
	select {
	case r.errands <- struct{}{}:
		r.finished.Add(1)
		go r.run(life, errand)
	default:
		r.answer(keywire.NotIssued{Epoch: epoch, ID: id, Text: []byte("too many errands are under way")}.Append(nil))
	}
}

// run is an errand from its begin to its answer.
func (r *Registrar) run(ctx context.Context, errand func(context.Context) []byte) {
	defer r.finished.Done()
	answer := errand(ctx)
	<-r.errands
	if ctx.Err() == nil {
		r.answer(answer)
	}
}

// answer sends a packet. One that is lost with the link is lost with us.
func (r *Registrar) answer(packet []byte) {
	if err := r.line.Send(packet); err != nil && !errors.Is(err, os.ErrClosed) {
		r.log.Error().Err(err).Msg("keeper not answered")
	}
}

// order obtains one certificate.
func (r *Registrar) order(ctx context.Context, m keywire.Order) []byte {
	ctx, done := context.WithTimeout(ctx, orderTime)
	defer done()
	name, chain, err := r.obtain(ctx, m)
	if err == nil {
		return keywire.Issued{Epoch: m.Epoch, ID: m.ID, Chain: chain}.Append(nil)
	}
	failure := failureOf(err, r.issuer.plan)
	failure.Epoch, failure.ID = m.Epoch, m.ID
	if len(failure.Name) == 0 {
		failure.Name = []byte(name)
	}
	return failure.Append(nil)
}

func (r *Registrar) obtain(ctx context.Context, m keywire.Order) (name string, chain [][]byte, err error) {
	request, err := x509.ParseCertificateRequest(m.Request)
	if err != nil {
		return "", nil, fmt.Errorf("request for a certificate: %w", err)
	}
	if name, err = onlyName(request); err != nil {
		return "", nil, err
	}
	if err := r.enlist(ctx, name, m.ID); err != nil {
		return name, nil, err
	}
	defer r.delist(name)
	if len(m.Replaces) > 0 {
		leaf, err := x509.ParseCertificate(m.Replaces)
		if err != nil {
			return name, nil, fmt.Errorf("certificate that is to be replaced: %w", err)
		}
		ctx = replacing{ctx, leaf}
	}
	text, err := r.issuer.issue(ctx, request, int(m.Attempts))
	if err != nil {
		return name, nil, err
	}
	chain, err = chainOf(text)
	return name, chain, err
}

// onlyName is the one name that a request is for.
func onlyName(request *x509.CertificateRequest) (string, error) {
	var names []string
	names = append(names, request.DNSNames...)
	for _, address := range request.IPAddresses {
		names = append(names, address.String())
	}
	if len(names) != 1 {
		return "", fmt.Errorf("request for a certificate: has %d names", len(names))
	}
	return names[0], nil
}

// enlist notes that an order of a name is under way, for certmagic keeps challenges by names.
// One before it, of a keeper that is gone, ends first.
func (r *Registrar) enlist(ctx context.Context, name string, id uint64) error {
	for {
		r.mu.Lock()
		other, taken := r.orders[name]
		if !taken {
			r.orders[name] = &order{id, make(chan struct{})}
		}
		r.mu.Unlock()
		if !taken {
			return nil
		}
		select {
		case <-other.over:
		case <-ctx.Done():
			return fmt.Errorf("another order of this name is under way: %w", ctx.Err())
		}
	}
}

func (r *Registrar) delist(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.orders[name].over)
	delete(r.orders, name)
}

// chainOf is a chain without the dress of PEM.
func chainOf(text []byte) (chain [][]byte, err error) {
	total := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" && len(block.Bytes) > 0 {
			chain = append(chain, block.Bytes)
			total += len(block.Bytes)
		}
	}
	if len(chain) == 0 || len(chain) > keywire.ChainLenMax || total > keywire.ChainBytesMax {
		return nil, fmt.Errorf("the CA has sent %d certificates of %d bytes", len(chain), total)
	}
	return chain, nil
}

// ask asks the CA when a certificate should be renewed.
func (r *Registrar) ask(ctx context.Context, m keywire.Ask) []byte {
	ctx, done := context.WithTimeout(ctx, askTime)
	defer done()
	leaf, err := x509.ParseCertificate(m.Leaf)
	if err == nil {
		var w keywire.Window
		if w, err = r.issuer.window(ctx, leaf); err == nil {
			w.Epoch, w.ID = m.Epoch, m.ID
			return w.Append(nil)
		}
	}
	failure := failureOf(err, r.issuer.plan)
	failure.Epoch, failure.ID = m.Epoch, m.ID
	return failure.Append(nil)
}

// present has cores answer a challenge and returns when they do.
func (r *Registrar) present(ctx context.Context, kind keywire.Kind, name, token, proof string) (number uint32, err error) {
	ctx, done := context.WithTimeout(ctx, presentTime)
	defer done()
	r.mu.Lock()
	one, known := r.orders[name]
	epoch := r.epoch
	r.number = (r.number + 1) % keywire.ChallengeHandle
	number = r.number
	have := make(chan struct{})
	r.waiting[number] = have
	r.mu.Unlock()
	defer r.forget(number)
	if !known {
		return 0, fmt.Errorf("challenge for %s, of which no order is under way", name)
	}
	message := keywire.Present{
		Epoch: epoch, ID: one.id, Number: number, Kind: kind,
		Name: []byte(name), Token: []byte(token), Proof: []byte(proof),
	}
	r.answer(message.Append(nil))
	select {
	case <-have:
		return number, nil
	case <-ctx.Done():
		r.retract(number)
		return 0, fmt.Errorf("no core answers for %s: %w", name, ctx.Err())
	}
}

func (r *Registrar) forget(number uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, number)
}

// presented tells who waits for it that cores have a challenge.
func (r *Registrar) presented(number uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, waits := r.waiting[number]; waits {
		close(have)
		delete(r.waiting, number)
	}
}

// retract ends a challenge.
func (r *Registrar) retract(number uint32) {
	r.mu.Lock()
	epoch := r.epoch
	r.mu.Unlock()
	r.answer(keywire.Retract{Epoch: epoch, Number: number}.Append(nil))
}
