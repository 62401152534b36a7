package keeper

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"sallyport/conf"
	"sallyport/sockets"
)

// This file is certmagic, which makes keys and requests, and keeps what is issued; storage.go
// is where. When something is to be issued is for schedule.go to say, and by whom for the
// registrar, on the other end of a link.

// An obtainer obtains certificates of one CA, one for each name.
type obtainer struct {
	config  *certmagic.Config
	cache   *certmagic.Cache // which a certmagic.Config has to have; empty
	storage *storage
	issuer  byRegistrar
}

func newObtainer(plan conf.ACME, folder *sockets.Folder, errands *errands) *obtainer {
	o := &obtainer{storage: newStorage(folder), issuer: byRegistrar{errands, plan.CA}}
	o.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return o.config, nil },
		Logger:           zap.NewNop(),
	})
	o.config = certmagic.New(o.cache, certmagic.Config{
		KeySource:           certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		Issuers:             []certmagic.Issuer{o.issuer},
		Storage:             o.storage,
		Logger:              zap.NewNop(), // schedule.go has a line for each order
		DisableStorageCheck: true,
		DisableARI:          true, // likewise, by Ask
		OCSP:                certmagic.OCSPConfig{DisableStapling: true},
	})
	return o
}

// replaced is the key of a certificate among the values of a context: certmagic hands nothing else
// on to an issuer.
type replaced struct{}

// obtain has a certificate issued for a name, with a new key, also when there is one; that is leaf
// then. The CA is told of it with the first attempt alone: where it knows another account, or an
// order that came to nothing, a certificate is more than its place in the CA's books.
func (o *obtainer) obtain(ctx context.Context, name string, attempts int, leaf *x509.Certificate) (pair, error) {
	ctx = context.WithValue(ctx, certmagic.AttemptsCtxKey, &attempts)
	if leaf != nil && attempts == 0 {
		ctx = context.WithValue(ctx, replaced{}, leaf.Raw)
	}
	// RenewCertSync obtains what is not there, and is one attempt.
	if err := o.config.RenewCertSync(ctx, name, true); err != nil {
		return pair{}, err
	}
	return o.load(name)
}

// load is what is kept for a name; fs.ErrNotExist if nothing is.
func (o *obtainer) load(name string) (pair, error) {
	return o.storage.pair(certmagic.StorageKeys.CertsSitePrefix(o.issuer.IssuerKey(), name))
}

// discard forgets what is kept for a name and is of no use.
func (o *obtainer) discard(name string) error {
	return o.storage.discard(certmagic.StorageKeys.CertsSitePrefix(o.issuer.IssuerKey(), name))
}

func (o *obtainer) close() { o.cache.Stop() }

// A byRegistrar is the issuer whose words the registrar passes on.
type byRegistrar struct {
	errands *errands
	ca      string // URL of the directory
}

// Issue is certmagic.Issuer's.
func (i byRegistrar) Issue(ctx context.Context, request *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	attempts, ok := ctx.Value(certmagic.AttemptsCtxKey).(*int)
	if !ok {
		return nil, errors.New("keeper: BUG: an order without a number of attempts")
	}
	name := ""
	for _, one := range request.DNSNames {
		name = one
	}
	for _, address := range request.IPAddresses {
		name = address.String()
	}
	leaf, _ := ctx.Value(replaced{}).([]byte) // nil without one
	chain, err := i.errands.order(ctx, name, *attempts, request.Raw, leaf)
	if err != nil {
		return nil, err
	}
	issued, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("the CA has sent a damaged certificate: %w", err)
	}
	if public, ok := issued.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && !public.Equal(request.PublicKey) {
		return nil, errors.New("the CA has sent a certificate of another key")
	}
	var text strings.Builder
	for _, der := range chain {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Builder takes all
	}
	return &certmagic.IssuedCertificate{Certificate: []byte(text.String())}, nil
}

// IssuerKey is certmagic.Issuer's: the name of the CA among what is kept.
func (i byRegistrar) IssuerKey() string {
	u, err := url.Parse(i.ca)
	if err != nil {
		return "ca"
	}
	return strings.Trim(strings.ReplaceAll(u.Host+u.Path, "/", "-"), "-")
}
