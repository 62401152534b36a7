package keeper

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// nameLists are the names of the two internal certificates that the tests have.
var nameLists = [][]string{{"localhost", "127.0.0.1", "::1"}, {"*.shop.internal"}}

// load makes the store of a keeper that is given the shelf. It returns what is logged, too.
func (s *shelf) load(t *testing.T) (store *Store, log string, err error) {
	t.Helper()
	plan := conf.Keeper{Authority: &conf.Authority{
		Secret: s.secretPath, Root: s.rootPath,
		Where: conf.Place{File: "sallyport.toml", Line: 1, Key: "state"},
	}}
	for _, names := range nameLists {
		plan.Certificates = append(plan.Certificates, conf.Certificate{Hosts: names, Internal: true})
	}
	var text bytes.Buffer
	store, err = Load(plan, make([]Files, len(nameLists)), AuthorityFiles{s.secret, s.root}, zerolog.New(&text))
	return store, text.String(), err
}

// mustLoad is load without a mistake.
func (s *shelf) mustLoad(t *testing.T) *Store {
	t.Helper()
	store, _, err := s.load(t)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// trust is what a client has that trusts a root file.
func trust(t *testing.T, root []byte) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		t.Fatalf("no root in %q", root)
	}
	return roots
}

// accepts is a client's opinion of a leaf, at a time.
func accepts(leaf *x509.Certificate, roots *x509.CertPool, name string, now time.Time) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
	return err
}

func TestInternalCertificates(t *testing.T) {
	s := shelved(t)
	store := s.mustLoad(t)
	now, roots := time.Now(), trust(t, s.rootText(t))
	for handle, names := range map[int][]string{0: {"localhost", "127.0.0.1", "::1"}, 1: {"a.shop.internal"}} {
		leaf := store.pairs[handle].leaf
		for _, name := range names {
			if net.ParseIP(name) != nil {
				name = "[" + name + "]" // what Verify takes for an address
			}
			if err := accepts(leaf, roots, name, now); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := accepts(leaf, roots, "example.com", now); err == nil {
			t.Errorf("certificate %d is for example.com, too", handle)
		}
		if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
			t.Errorf("certificate %d is a CA's: %v, or for %v, %v", handle, leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
		if begin, end := now.Sub(leaf.NotBefore), leaf.NotAfter.Sub(now); begin.Round(time.Minute) != backdate || end.Round(time.Minute) != leafLife {
			t.Errorf("certificate %d began %v ago and ends in %v", handle, begin, end)
		}
		if chain := store.pairs[handle].chain; len(chain) != 1 || !bytes.Equal(chain[0], leaf.Raw) {
			t.Errorf("certificate %d: the chain is not the leaf alone", handle)
		}
	}
	if a, b := store.pairs[0], store.pairs[1]; a.leaf.SerialNumber.Cmp(b.leaf.SerialNumber) == 0 || a.key.(*ecdsa.PrivateKey).Equal(b.key) {
		t.Error("two certificates have one number, or one key")
	}
	root := store.authority.root
	if !root.IsCA || root.MaxPathLen != 0 || !root.MaxPathLenZero || root.KeyUsage != x509.KeyUsageCertSign || root.SerialNumber.BitLen() < 64 {
		t.Errorf("root %+v", root)
	}
}

// A keeper that follows another one has the same root and the same keys: a core
// goes on with what it had.
func TestInternalCAIsStable(t *testing.T) {
	for name, s := range map[string]*shelf{"folder": shelved(t), "memory": inMemory(t)} {
		first := s.mustLoad(t)
		root := s.rootText(t)
		second, log, err := s.load(t)
		if err != nil || log != "" {
			t.Errorf("%s: logged %q, %v", name, log, err)
		}
		if !bytes.Equal(root, s.rootText(t)) {
			t.Errorf("%s: another root", name)
		}
		for i := range first.pairs {
			if !first.pairs[i].key.(*ecdsa.PrivateKey).Equal(second.pairs[i].key) {
				t.Errorf("%s: certificate %d has another key", name, i)
			}
		}
	}
	if a, b := shelved(t).mustLoad(t), shelved(t).mustLoad(t); a.authority.key.Equal(b.authority.key) {
		t.Error("two machines have one key")
	}
}

// What is derived from a secret is a promise over all versions: a change is
// another CA on every machine. The fingerprints were computed with another program
// from RFC 5869 and the curve's equation.
func TestDerivationIsKnown(t *testing.T) {
	secret := make([]byte, secretBytes)
	for i := range secret {
		secret[i] = byte(i)
	}
	s := shelvedWith(t, secret, nil)
	store := s.mustLoad(t)
	if got, want := store.authority.root.Subject.CommonName, "sallyport internal CA fd7ee1d0"; got != want {
		t.Errorf("root: got %q, want %q", got, want)
	}
	for i, want := range []string{"d49522e6", "d84f3b82"} {
		if got := fingerprint(t, store.pairs[i].key.Public()); got != want {
			t.Errorf("leaf %d: got %s, want %s", i, got, want)
		}
	}
}

func fingerprint(t *testing.T, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return digest(der)
}

func TestRootIsWrittenAnew(t *testing.T) {
	s := shelved(t)
	store := s.mustLoad(t)
	good, now := s.rootText(t), time.Now()
	leaf := store.pairs[0].leaf
	stranger := shelved(t)
	stranger.mustLoad(t)

	// A certificate of the CA's key that somebody else has signed.
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "forged"}, NotBefore: now, NotAfter: now.Add(rootLife), IsCA: true, BasicConstraintsValid: true}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, store.authority.key.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ending := func(left time.Duration) []byte {
		root, err := (&authority{key: store.authority.key}).newRoot(now.Add(left - rootLife))
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	for name, c := range map[string]struct {
		text []byte
		log  string // "" when the text stays
	}{
		"as it is":           {good, ""},
		"with a year left":   {ending(rootSpare + time.Minute), ""},
		"lost":               {nil, `"level":"info"`},
		"half":               {good[:len(good)/2], "is no certificate"},
		"another CA's":       {stranger.rootText(t), "is not of this CA"},
		"a leaf":             {pemOf(leaf), "is not of this CA"},
		"forged":             {pemOf(forged), "is not of this CA"},
		"with another added": {append(bytes.Clone(good), stranger.rootText(t)...), "holds more than one certificate"},
		"behind some text":   {append([]byte("mine\n"), good...), "holds more than one certificate"},
		"near its end":       {ending(rootSpare - time.Minute), "ends 20"},
	} {
		s.putRoot(t, c.text)
		_, log, err := s.load(t)
		if err != nil || !strings.Contains(log, c.log) || (c.log == "") != (log == "") {
			t.Errorf("%s: logged %q, %v", name, log, err)
		}
		if (c.log == "") != bytes.Equal(s.rootText(t), c.text) {
			t.Errorf("%s: the file has changed, or not", name)
		}
		// Whoever trusts the first root trusts what is issued now, and the reverse.
		if err := accepts(leaf, trust(t, s.rootText(t)), "localhost", now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := accepts(s.mustLoad(t).pairs[0].leaf, trust(t, good), "localhost", now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRenewal(t *testing.T) {
	store := shelved(t).mustLoad(t)
	k := New(store, nil, zerolog.Nop())
	begin, leaf := time.Now(), store.pairs[0].leaf
	roots := x509.NewCertPool()
	roots.AddCert(store.authority.root)
	const due = leafLife - leafSpare
	for _, step := range []struct {
		after   time.Duration
		renewed bool
	}{
		{0, false},
		{due - time.Minute, false},
		{due + time.Minute, true},
		{2*due - time.Minute, false},
		{2*due + 2*time.Minute, true},
		{100 * leafLife, true},             // a long sleep
		{50 * leafLife, true},              // the clock was wrong
		{50*leafLife - time.Minute, false}, // and again, by less than certificates are backdated
	} {
		now := begin.Add(step.after)
		before := store.pairs[0]
		k.renew(now)
		after := store.pairs[0]
		if got := after.leaf != before.leaf; got != step.renewed {
			t.Errorf("after %v: renewed is %v", step.after, got)
		}
		if err := accepts(after.leaf, roots, "localhost", now); err != nil {
			t.Errorf("after %v: %v", step.after, err)
		}
		if !after.leaf.PublicKey.(*ecdsa.PublicKey).Equal(leaf.PublicKey) || !bytes.Equal(after.chain[0], after.leaf.Raw) {
			t.Errorf("after %v: another key, or another chain", step.after)
		}
	}
}

// A core's Hello is what renews, and it brings the new certificate.
func TestHelloRenews(t *testing.T) {
	store := shelved(t).mustLoad(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	for i := range store.pairs {
		if err := store.authority.issue(&store.pairs[i], tomorrow); err != nil { // not valid yet
			t.Fatal(err)
		}
	}
	core, link := linked(t)
	serve(t, store, link)
	told(t, core, keywire.Hello{Epoch: 1}.Append(nil))
	for seen := 0; seen < len(nameLists); {
		packet := heard(t, core)
		m, err := keywire.DecodeCertificate(packet)
		if err != nil {
			continue // the ticket keys
		}
		leaf, err := x509.ParseCertificate(m.Chain[0])
		if err != nil || leaf.NotBefore.After(time.Now()) {
			t.Errorf("certificate %d begins %v, %v", m.Handle, leaf.NotBefore, err)
		}
		seen++
	}
}

// Nothing that a core can say is signed with the key of the CA, and with the keys
// of leaves handshakes alone.
func TestNoHandleForTheRoot(t *testing.T) {
	store := shelved(t).mustLoad(t)
	root := store.authority.key.Public()
	handshake := certificateVerify(32)
	for handle := range uint32(1000) {
		for _, h := range []uint32{handle, -handle, handle << 16} {
			signature, reason, err := store.sign(keywire.Sign{ID: 1, Handle: h, Scheme: keywire.ECDSAWithSHA256, Message: handshake})
			if err != nil {
				t.Fatal(err)
			}
			if (reason == 0) != (h < uint32(len(nameLists))) {
				t.Fatalf("handle %d: got %v", h, reason)
			}
			if reason == 0 && verify(root, keywire.ECDSAWithSHA256, handshake, signature) {
				t.Errorf("handle %d is the root", h)
			}
		}
	}
	for name, message := range map[string][]byte{
		"a leaf":         store.pairs[0].leaf.RawTBSCertificate,
		"a root":         store.authority.root.RawTBSCertificate,
		"a request":      plainRequest(t, keys()["P-256"]),
		"a made request": craftedRequest(t, keys()["Ed25519"], x25519),
	} {
		for handle := range store.pairs {
			signature, reason, err := store.sign(keywire.Sign{ID: 1, Handle: uint32(handle), Scheme: keywire.ECDSAWithSHA256, Message: message})
			if signature != nil || reason == 0 || err != nil {
				t.Errorf("%s with handle %d: got %x, %v, %v", name, handle, signature, reason, err)
			}
		}
	}
}

// What a core is sent holds no key and not the secret.
func TestCoreIsSentNoSecret(t *testing.T) {
	s := shelved(t)
	store := s.mustLoad(t)
	secrets := map[string][]byte{"secret": store.authority.secret}
	for name, key := range map[string]any{"root": store.authority.key, "leaf": store.pairs[0].key} {
		raw, err := key.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = raw
	}
	core, link := linked(t)
	serve(t, store, link)
	told(t, core, keywire.Hello{Epoch: 1}.Append(nil))
	told(t, core, keywire.Sign{Epoch: 1, ID: 1, Scheme: keywire.ECDSAWithSHA256, Message: certificateVerify(32)}.Append(nil))
	for range 1 + len(nameLists) + 1 {
		packet := heard(t, core)
		for name, secret := range secrets {
			if bytes.Contains(packet, secret) {
				t.Errorf("%s is in the packet %x", name, packet)
			}
		}
	}
}

func TestFirstKey(t *testing.T) {
	zero, largest := make([]byte, 32), bytes.Repeat([]byte{0xff}, 32)
	order := elliptic.P256().Params().N.Bytes()
	one := append(make([]byte, 31), 1)
	numbers := [][]byte{zero, largest, order, one}
	key, err := firstKey(func(try int) ([]byte, error) { return bytes.Clone(numbers[try]), nil })
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := key.Bytes(); err != nil || !bytes.Equal(raw, one) {
		t.Errorf("got %x, %v", raw, err)
	}
	if _, err := firstKey(func(int) ([]byte, error) { return bytes.Clone(zero), nil }); err == nil {
		t.Error("zeros are a key")
	}
	broken := errors.New("broken")
	if _, err := firstKey(func(int) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// A leaf key depends on its names, and on nothing else in the plan.
func TestLeafKeysAreByName(t *testing.T) {
	store := shelved(t).mustLoad(t)
	alone, err := store.authority.pair(nameLists[1], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !alone.key.(*ecdsa.PrivateKey).Equal(store.pairs[1].key) {
		t.Error("the key depends on the place in the plan")
	}
	if sha256.Sum256(alone.leaf.Raw) == sha256.Sum256(store.pairs[1].leaf.Raw) {
		t.Error("two certificates are one")
	}
}
