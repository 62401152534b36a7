package keeper

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// served is a keeper with cores that have greeted and serve, and their ends of the links.
func served(t *testing.T, cores int) (*Keeper, []int) {
	t.Helper()
	var ends, links []int
	for range cores {
		core, link := linked(t)
		ends, links = append(ends, core), append(links, link)
	}
	k := New(stocked(t, keys()["Ed25519"]), links, zerolog.Nop())
	for i, core := range ends {
		s := &k.sessions[i]
		epoch := uint64(7 + i)
		told(t, core, keywire.Hello{Epoch: epoch}.Append(nil))
		s.react(unix.POLLIN)
		told(t, core, keywire.Serving{Epoch: epoch}.Append(nil))
		s.react(unix.POLLIN)
		paid(t, s, core)
	}
	return k, ends
}

// paid are the packets that a session sends when it can.
func paid(t *testing.T, s *session, core int) (packets [][]byte) {
	t.Helper()
	for range 8 {
		s.react(unix.POLLOUT)
	}
	buffer := make([]byte, keywire.ReplyBytesMax)
	for {
		n, err := keywire.Receive(core, buffer)
		if errors.Is(err, unix.EAGAIN) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, bytes.Clone(buffer[:n]))
	}
}

func opsOf(packets [][]byte) (ops []keywire.Op) {
	for _, packet := range packets {
		ops = append(ops, keywire.Op(packet[0]))
	}
	return ops
}

func httpProof(number uint32, answered func()) *proof {
	return &proof{answered: answered, message: keywire.Challenge{
		Number: number, Kind: keywire.HTTP01, Name: []byte("a.test"), Token: []byte("t"), Proof: []byte("t.x"),
	}}
}

// A challenge is answered when every core that serves has it, not before; one that comes
// later is told as well, and all when it is over.
func TestChallengeReachesEveryCore(t *testing.T) {
	k, cores := served(t, 2)
	answered := false
	if !k.open(httpProof(3, func() { answered = true })) {
		t.Fatal("no room")
	}
	for i, core := range cores {
		s := &k.sessions[i]
		packets := paid(t, s, core)
		if got := opsOf(packets); !slices.Equal(got, []keywire.Op{keywire.OpChallenge}) {
			t.Fatalf("core %d is sent %v", i, got)
		}
		m, err := keywire.DecodeChallenge(packets[0])
		if err != nil || m.Epoch != s.epoch || string(m.Proof) != "t.x" {
			t.Errorf("core %d: %+v, %v", i, m, err)
		}
		if answered {
			t.Error("answered before all cores have it")
		}
		told(t, core, keywire.Answering{Epoch: s.epoch, Number: 3}.Append(nil))
		s.react(unix.POLLIN)
	}
	if !answered {
		t.Error("not answered, though all cores have it")
	}
	// A core that follows another on the same row has nothing, and is told.
	told(t, cores[0], keywire.Hello{Epoch: 99}.Append(nil))
	k.sessions[0].react(unix.POLLIN)
	if got := opsOf(paid(t, &k.sessions[0], cores[0])); !slices.Contains(got, keywire.OpChallenge) {
		t.Errorf("a new core is sent %v", got)
	}
	k.withdraw(3)
	for i, core := range cores {
		if got := opsOf(paid(t, &k.sessions[i], core)); !slices.Contains(got, keywire.OpWithdrawn) {
			t.Errorf("core %d is sent %v", i, got)
		}
	}
	if len(k.proofs) != 0 {
		t.Error("still open")
	}
}

// A core that dies is not waited for; without any that serves nothing is answered.
func TestChallengeWithoutACore(t *testing.T) {
	k, _ := served(t, 2)
	answered := false
	k.open(httpProof(1, func() { answered = true }))
	k.sessions[0].answers[1] = true
	k.sessions[1].end(unix.EPIPE)
	if !answered {
		t.Error("a dead core is waited for")
	}
	k.sessions[0].end(unix.EPIPE)
	answered = false
	k.open(httpProof(2, func() { answered = true }))
	if answered {
		t.Error("answered by nobody")
	}
}

func TestChallengesAreBounded(t *testing.T) {
	k, _ := served(t, 1)
	for i := range challengesMax {
		if !k.open(httpProof(uint32(i), nil)) {
			t.Fatal(i)
		}
	}
	if k.open(httpProof(challengesMax, nil)) {
		t.Error("one more was opened")
	}
	for i := range 1000 { // a core that reads nothing
		k.sessions[0].tell(uint32(1000 + i))
	}
	if n := len(k.sessions[0].news); n > newsMax {
		t.Errorf("it is owed %d", n)
	}
	k.withdrawAll()
	if len(k.proofs) != 0 || len(k.proving) != 0 {
		t.Error("some are left")
	}
}

// A certificate that follows another reaches the core, and handshakes that began with the
// old one are signed by its key; those of the one before that are not.
func TestPublish(t *testing.T) {
	k, cores := served(t, 1)
	s := &k.sessions[0]
	tags := []uint32{}
	publish := func(kind string) {
		cert, key := issue(t, keys()[kind])
		p, err := unbundle(bundle(key, cert, nil))
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, keywire.KeyTag(p.leaf.RawSubjectPublicKeyInfo))
		k.publish("a.test", p)
		packets := paid(t, s, cores[0])
		if m, err := keywire.DecodeCertificate(packets[0]); err != nil || !bytes.Equal(m.Chain[0], p.chain[0]) {
			t.Errorf("%s: the core is sent %v, %v", kind, opsOf(packets), err)
		}
	}
	sign := func(tag uint32, scheme keywire.Scheme) keywire.Op {
		told(t, cores[0], keywire.Sign{Epoch: s.epoch, ID: 9, Key: tag, Scheme: scheme, Message: certificateVerify(32)}.Append(nil))
		s.react(unix.POLLIN)
		return keywire.Op(heard(t, cores[0])[0])
	}
	tags = append(tags, keywire.KeyTag(k.tables[sockets.FirstTable].pairs[0].leaf.RawSubjectPublicKeyInfo))
	k.tables[sockets.FirstTable].pairs[0].orderedFor = "a.test"
	k.Keep(sockets.FirstTable, k.tables[sockets.FirstTable])
	publish("P-256")
	publish("RSA-2048")
	for i, want := range []keywire.Op{keywire.OpRefused, keywire.OpSigned, keywire.OpSigned} {
		scheme := []keywire.Scheme{keywire.Ed25519, keywire.ECDSAWithSHA256, keywire.PSSWithSHA256}[i]
		if got := sign(tags[i], scheme); got != want {
			t.Errorf("key %d: got op %d, want %d", i, got, want)
		}
	}
	if got := sign(0, keywire.PSSWithSHA256); got != keywire.OpSigned {
		t.Errorf("whatever key there is: got op %d", got)
	}
}

// The key of a challenge by TLS signs handshakes, and only while the challenge is open.
func TestChallengeKey(t *testing.T) {
	k, cores := served(t, 1)
	s := &k.sessions[0]
	p := &proof{message: keywire.Challenge{Number: 5, Kind: keywire.TLSALPN01, Name: []byte("a.test"), Proof: []byte("t.x")}}
	if err := p.certify(); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.pair.key.(*ecdsa.PrivateKey); !ok || string(p.message.Name) != "a.test" || p.message.Token != nil {
		t.Errorf("got %T, %q, %q", p.pair.key, p.message.Name, p.message.Token)
	}
	request := func(message []byte) []byte {
		return keywire.Sign{Epoch: s.epoch, ID: 9, Handle: keywire.ChallengeHandle + 5, Scheme: keywire.ECDSAWithSHA256, Message: message}.Append(nil)
	}
	sign := func(message []byte) keywire.Op {
		told(t, cores[0], request(message))
		s.react(unix.POLLIN)
		return keywire.Op(heard(t, cores[0])[0])
	}
	if got := sign(certificateVerify(32)); got != keywire.OpRefused {
		t.Errorf("before it is open: op %d", got)
	}
	k.open(p)
	paid(t, s, cores[0])
	if got := sign(certificateVerify(32)); got != keywire.OpSigned {
		t.Errorf("open: op %d", got)
	}
	if got := sign([]byte("anything else")); got != keywire.OpRefused {
		t.Errorf("no handshake: op %d", got)
	}
	k.withdraw(5)
	paid(t, s, cores[0])
	if got := sign(certificateVerify(32)); got != keywire.OpRefused {
		t.Errorf("over: op %d", got)
	}
}

func TestReverseName(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":          "1.2.0.192.in-addr.arpa",
		"2001:db8::567:89ab": "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", // RFC 3596, section 2.5, has the like
	} {
		if got := reverseName(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %s", address, got)
		}
	}
}

// What cores are to say by HTTP has the form of a proof, or is not said.
func TestIsProof(t *testing.T) {
	thumbprint := strings.Repeat("x", 43)
	for proof, want := range map[string]bool{
		"tok_-1." + thumbprint: true, "tok_-1." + thumbprint + "x": false, "tok_-1.": false, "other." + thumbprint: false,
		"tok_-1." + strings.Repeat("<", 43): false, thumbprint: false, "": false,
	} {
		if got := isProof([]byte("tok_-1"), []byte(proof)); got != want {
			t.Errorf("%q: got %v", proof, got)
		}
	}
	if isProof([]byte("<b>"), []byte("<b>."+thumbprint)) || isProof(nil, []byte("."+thumbprint)) {
		t.Error("a token of other letters was taken")
	}
}

// registrarEnd is a keeper's errands, and the registrar's end of their link.
func registrarEnd(t *testing.T) (*errands, int) {
	t.Helper()
	registrar, link := linked(t)
	k, _ := served(t, 1)
	var err error
	if k.changes, err = newChanges(); err != nil {
		t.Fatal(err)
	}
	e, err := newErrands(dup(t, link), k, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); e.loop() }()
	t.Cleanup(func() { e.line.Close(); <-done })
	return e, registrar
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A registrar presents challenges of names that are ordered, and of no others; what it is
// asked for before it dies is lost at once, and a late answer is nobody's.
func TestErrands(t *testing.T) {
	e, registrar := registrarEnd(t)
	begun := heardWithin(t, registrar)
	if keywire.Op(begun[0]) != keywire.OpBegun {
		t.Fatalf("got op %d first", begun[0])
	}
	results := make(chan error, 1)
	order := func() keywire.Order {
		go func() { _, err := e.order(context.Background(), "a.test", 2, []byte{0x30, 0}, nil); results <- err }()
		m, err := keywire.DecodeOrder(heardWithin(t, registrar))
		if err != nil || m.Attempts != 2 {
			t.Fatalf("got %+v, %v", m, err)
		}
		return m
	}
	m := order()
	thumbprint := strings.Repeat("x", 43)
	present := func(name, proof string, id uint64) error {
		return e.present(keywire.Present{Epoch: m.Epoch, ID: id, Number: 1, Kind: keywire.HTTP01, Name: []byte(name), Token: []byte("t"), Proof: []byte(proof)}.Append(nil))
	}
	if err := present("a.test", "t."+thumbprint, m.ID); err != nil {
		t.Error(err)
	}
	e.cores.changes.make()
	if len(e.cores.proofs) != 1 {
		t.Error("not open")
	}
	for _, err := range []error{
		present("b.test", "t."+thumbprint, m.ID), present("a.test", "<script>", m.ID), present("a.test", "t."+thumbprint, m.ID+1),
	} {
		if err == nil {
			t.Error("presented what is not ordered")
		}
	}
	told(t, registrar, keywire.Begun{}.Append(nil)) // another one
	if err := <-results; !errors.Is(err, errLost) {
		t.Errorf("got %v", err)
	}
	if again, err := keywire.DecodeBegun(heardWithin(t, registrar)); err != nil || again.Epoch == m.Epoch {
		t.Errorf("no new epoch: %v, %v", again, err)
	}
	next := order()
	told(t, registrar, keywire.Issued{Epoch: m.Epoch, ID: next.ID, Chain: [][]byte{{1}}}.Append(nil)) // of the old epoch
	told(t, registrar, keywire.NotIssued{Epoch: next.Epoch, ID: next.ID, Status: 429, Problem: []byte(problemLimited), Text: []byte("no")}.Append(nil))
	var r *refusal
	if err := <-results; !errors.As(err, &r) || r.status != 429 || r.text != "no" {
		t.Errorf("got %v", err)
	}
	e.cores.changes.make()
	if len(e.cores.proofs) != 0 {
		t.Error("challenges of a dead registrar are open")
	}
}

// heardWithin waits for one packet.
func heardWithin(t *testing.T, fd int) []byte {
	t.Helper()
	polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			t.Fatalf("nothing within 10 s: %v", err)
		}
		return heard(t, fd)
	}
}

func TestBackOff(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	limited := func(text string) *refusal { return &refusal{status: 429, problem: problemLimited, text: text} }
	for name, c := range map[string]struct {
		attempts    int
		r           *refusal
		least, most time.Duration
	}{
		"unreached":            {1, nil, 4 * time.Second, 6 * time.Second},
		"unreached, 3rd":       {3, &refusal{}, 16 * time.Second, 24 * time.Second},
		"unreached, at last":   {100, nil, 8 * time.Minute, 12 * time.Minute},
		"refused":              {1, &refusal{status: 403}, 48 * time.Second, 72 * time.Second},
		"refused, at last":     {100, &refusal{status: 403}, 4*time.Hour + 48*time.Minute, 7*time.Hour + 12*time.Minute},
		"limited":              {1, limited("too many"), 48 * time.Minute, 72 * time.Minute},
		"limited until":        {1, limited("x, retry after 2026-11-25 14:00:00 UTC: see"), 2 * time.Hour, 2*time.Hour + time.Minute},
		"limited for ever":     {1, limited("retry after 2999-11-25 14:00:00 UTC"), retryMost, retryMost + time.Minute},
		"limited, in the past": {1, limited("retry after 1999-11-25 14:00:00 UTC"), 48 * time.Minute, 72 * time.Minute},
	} {
		for range 50 {
			if got := backOff(c.attempts, c.r, now); got < c.least || got > c.most {
				t.Errorf("%s: got %v, want from %v to %v", name, got, c.least, c.most)
				break
			}
		}
	}
}

// Orders that Let's Encrypt would refuse are not sent, also after a start.
func TestLedger(t *testing.T) {
	const le = "https://acme-v02.api.letsencrypt.org/directory"
	folder := folderAt(t, t.TempDir())
	now := time.Now().Truncate(time.Second)
	l := newLedger(folder, le)
	for i := range 5 {
		if wait := l.wait("a.test", now); wait.After(now) {
			t.Fatalf("%d orders: wait until %v", i, wait)
		}
		if err := l.note("a.test", now.Add(time.Duration(i)*time.Hour), nil); err != nil {
			t.Fatal(err)
		}
	}
	at := now.Add(5 * time.Hour)
	for name, l := range map[string]*ledger{"same": l, "after a start": newLedger(folder, le)} {
		if got, want := l.wait("a.test", at), now.Add(7*24*time.Hour); !got.Equal(want) {
			t.Errorf("%s: five a week: got %v, want %v", name, got, want)
		}
		if wait := l.wait("b.test", at); wait.After(at) {
			t.Errorf("%s: another name waits until %v", name, wait)
		}
	}
	if wait := newLedger(folder, "https://ca.test/dir").wait("a.test", at); wait.After(at) {
		t.Error("another CA has these limits too")
	}
	for range 5 {
		_ = l.note("c.test", at, &refusal{status: 403})
		_ = l.note("d.test", at, &refusal{}) // which the CA never saw
	}
	if got := l.wait("c.test", at); !got.Equal(at.Add(time.Hour)) {
		t.Errorf("five failures: got %v", got)
	}
	if got := l.wait("d.test", at); got.After(at) {
		t.Errorf("failures that the CA did not see: got %v", got)
	}
	for range 300 {
		_ = l.note("e.test", at, &refusal{status: 400})
	}
	if got := l.wait("f.test", at); !got.After(at) {
		t.Error("300 orders of the account: one more is sent")
	}
}

func FuzzParseEntries(f *testing.F) {
	f.Add([]byte("1764090000 issued\n1764090001 failed\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n := len(parseEntries(text)); n > entriesMax {
			t.Errorf("%d entries", n)
		}
	})
}

// Certificates are followed in time: when a third of their life is left, or a bit before.
func TestRenewalOf(t *testing.T) {
	cert, key := issue(t, keys()["P-256"]) // two hours
	p, err := unbundle(bundle(key, cert, nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		left := p.leaf.NotAfter.Sub(renewalOf(p.leaf))
		if left < 40*time.Minute || left > 44*time.Minute+time.Second {
			t.Fatalf("with %v left", left)
		}
	}
}
