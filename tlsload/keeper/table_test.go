package keeper

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// loads makes the store of a parcel with a pair.
func loads(t *testing.T) Loader {
	return func(gifts sockets.Gifts, before *Store) (*Store, error) {
		cert, noCert := gifts.FD("cert0")
		key, noKey := gifts.FD("key0")
		if err := errors.Join(noCert, noKey); err != nil {
			return nil, err
		}
		plan := conf.Keeper{Certificates: []conf.Certificate{{Cert: "shop.pem", Key: "shop.key"}}}
		return LoadBeside(before, plan, []Files{{cert, key}}, AuthorityFiles{}, zerolog.Nop())
	}
}

// keeps sends a table with the certificate of a key, or with another key than that one's.
func keeps(t *testing.T, warden, table int, key, private crypto.Signer) {
	t.Helper()
	cert, _ := issue(t, key)
	_, text := issue(t, private)
	parcel, err := sockets.Pack(sockets.Gifts{{Name: "cert0", FD: given(t, cert)}, {Name: "key0", FD: given(t, text)}})
	if err == nil {
		err = sockets.Send(warden, sockets.Keeping{Table: table}.Append(nil), parcel)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(parcel)
}

// learns greets the keeper, and returns the certificate that it is told.
func learns(t *testing.T, core int, epoch uint64) *x509.Certificate {
	t.Helper()
	told(t, core, keywire.Hello{Epoch: epoch}.Append(nil))
	for range 2 {
		if m, err := keywire.DecodeCertificate(heard(t, core)); err == nil {
			leaf, err := x509.ParseCertificate(m.Chain[0])
			if err != nil {
				t.Fatal(err)
			}
			return leaf
		}
	}
	t.Fatal("no certificate")
	return nil
}

func freshKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signs has a handshake signed, by the key of the certificate.
func signs(t *testing.T, core int, epoch uint64, leaf *x509.Certificate) {
	t.Helper()
	message := certificateVerify(32)
	told(t, core, keywire.Sign{Epoch: epoch, ID: 1, Scheme: keywire.ECDSAWithSHA256, Message: message}.Append(nil))
	m, err := keywire.DecodeSigned(heard(t, core))
	if err == nil {
		err = leaf.CheckSignature(x509.ECDSAWithSHA256, message, m.Signature)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestTables shows that cores of an older plan have their signatures by the keys that they
// know, beside those of a newer one, until nobody asks any more; and what is no table has no
// cores.
func TestTables(t *testing.T) {
	_, warden, wait := adopting(t)
	old, renewed := freshKey(t), freshKey(t)
	var cores []int
	var leaves []*x509.Certificate
	for i, key := range []crypto.Signer{old, renewed} {
		keeps(t, warden, 2+i, key, key)
		core := comes(t, warden, sockets.Adoption{Row: i, Table: 2 + i})
		leaf := learns(t, core, uint64(i))
		if !leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("table %d: another certificate", 2+i)
		}
		cores, leaves = append(cores, core), append(leaves, leaf)
	}
	for range 2 {
		for i := range cores {
			signs(t, cores[i], uint64(i), leaves[i])
		}
	}
	keeps(t, warden, 4, old, renewed)
	if n, err := unix.Read(comes(t, warden, sockets.Adoption{Row: 2, Table: 4}), make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("a core of a table that could not be loaded has a link: %d, %v", n, err)
	}
	if err := sockets.Send(warden, sockets.Keeping{Table: 2, Forget: true}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(cores[0], make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("a core of a table that is forgotten has a link: %d, %v", n, err)
	}
	signs(t, cores[1], 1, leaves[1])
	greets(t, comes(t, warden, sockets.Adoption{Row: 3, Table: sockets.FirstTable}), 9)
	if err := unix.Shutdown(warden, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// TestLoadBeside shows that all tables have one internal CA, and the same names the same
// certificate key.
func TestLoadBeside(t *testing.T) {
	before := shelved(t).mustLoad(t)
	plan := conf.Keeper{Authority: &conf.Authority{}, Certificates: []conf.Certificate{{Internal: true, Hosts: []string{"new.internal"}}}}
	after, err := LoadBeside(before, plan, make([]Files, 1), AuthorityFiles{-1, -1}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := after.pairs[0].leaf.CheckSignatureFrom(before.authority.root); err != nil {
		t.Error(err)
	}
}

// TestLoadBesideShares shows that a pair whose files are the same is not loaded again, and
// one of which either has changed is.
func TestLoadBesideShares(t *testing.T) {
	plan := conf.Keeper{Certificates: []conf.Certificate{{Cert: "shop.pem", Key: "shop.key"}}}
	key := freshKey(t)
	cert, text := issue(t, key)
	again, _ := issueUntil(t, key, time.Now().Add(2*time.Hour))
	load := func(before *Store, cert, key []byte) *Store {
		t.Helper()
		files := []Files{{given(t, cert), given(t, key)}}
		if before == nil {
			before = new(Store)
		}
		store, err := LoadBeside(before, plan, files, AuthorityFiles{}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	first := load(nil, cert, text)
	if same := load(first, cert, text); same.pairs[0].key != first.pairs[0].key {
		t.Error("the same pair is loaded again")
	}
	for name, other := range map[string]*Store{"certificate": load(first, again, text), "key": load(first, cert, append(text, '\n'))} {
		if other.pairs[0].key == first.pairs[0].key {
			t.Errorf("another %s: taken for the same", name)
		}
	}
}

// TestCheck shows that an expired certificate is a mistake where something else serves on,
// and none at a start; and that internal ones are of no concern without their CA.
func TestCheck(t *testing.T) {
	key := keys()["P-256"]
	cert, text := issueUntil(t, key, time.Now().Add(-time.Hour))
	certificates := []conf.Certificate{{Cert: "shop.pem", Key: "shop.key", Where: conf.Place{File: "x.toml", Line: 7}}, {Internal: true}}
	files := []Files{{given(t, cert), given(t, text)}, {}}
	err := Check(conf.Keeper{Certificates: certificates}, files, AuthorityFiles{}, zerolog.Nop())
	if err == nil || !strings.HasPrefix(err.Error(), "x.toml:7: site.tls.cert: shop.pem: has expired ") {
		t.Error(err)
	}
	var log bytes.Buffer
	_, err = Load(conf.Keeper{Certificates: certificates[:1]}, files, AuthorityFiles{}, zerolog.New(&log))
	if err != nil || !strings.Contains(log.String(), "expired") {
		t.Error(fmt.Sprint(err), log.String())
	}
}

// BenchmarkLoad is the time in which a keeper that takes a table answers nobody, per pair.
func BenchmarkLoad(b *testing.B) {
	for name, key := range keys() {
		b.Run(name, func(b *testing.B) {
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				b.Fatal(err)
			}
			secret, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				b.Fatal(err)
			}
			folder := b.TempDir()
			var fds []int
			for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: secret}} {
				path := filepath.Join(folder, fmt.Sprint(i))
				if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
					b.Fatal(err)
				}
				fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				defer unix.Close(fd)
				fds = append(fds, fd)
			}
			for b.Loop() {
				if _, flaws := load(conf.Certificate{}, Files{fds[0], fds[1]}); len(flaws) > 0 {
					b.Fatal(flaws)
				}
			}
		})
	}
}
