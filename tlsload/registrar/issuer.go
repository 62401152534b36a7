package registrar

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// An issuer is certmagic's, with an account that is kept in the registrar's folder.
type issuer struct {
	plan  conf.Registrar
	acme  *certmagic.ACMEIssuer
	cache *certmagic.Cache // which a certmagic.Config has to have; empty
}

// The ports of loopback that certmagic would answer challenges on, if it could. They are
// those of no service; see doc.go.
const (
	idleHTTPPort = 60578
	idleTLSPort  = 60579
)

func newIssuer(plan conf.Registrar, secrets Secrets, r *Registrar) *issuer {
	i := &issuer{plan: plan}
	var config *certmagic.Config
	i.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return config, nil },
		Logger:           zap.NewNop(),
	})
	config = certmagic.New(i.cache, certmagic.Config{
		Storage: newAccounts(secrets.Folder, r),
		Logger:  zap.NewNop(),
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
	})
	template := certmagic.ACMEIssuer{
		CA: plan.CA, TestCA: plan.TestCA, Email: plan.Email, Profile: plan.Profile,
		Agreed:                  true, // whoever writes tls = "acme", or nothing, has: doc.go of package conf
		DisableHTTPChallenge:    !plan.HTTP,
		DisableTLSALPNChallenge: !plan.TLS,
		ListenHost:              "127.0.0.1", AltHTTPPort: idleHTTPPort, AltTLSALPNPort: idleTLSPort,
		TrustedRoots: secrets.Roots,
		Logger:       zap.NewNop(), // the keeper has a line for each order
	}
	if plan.KeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: plan.KeyID, MACKey: secrets.KeyMAC}
	}
	i.acme = certmagic.NewACMEIssuer(config, template)
	return i
}

// issue obtains a certificate, and returns its chain as PEM. After a failed attempt the
// test CA comes first, if there is one: it has limits of its own.
func (i *issuer) issue(ctx context.Context, request *x509.CertificateRequest, attempts int) ([]byte, error) {
	names := append([]string{}, request.DNSNames...)
	for _, address := range request.IPAddresses {
		names = append(names, address.String())
	}
	if err := i.acme.PreCheck(ctx, names, false); err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, certmagic.AttemptsCtxKey, &attempts)
	issued, err := i.acme.Issue(ctx, request)
	if err != nil {
		return nil, err
	}
	return issued.Certificate, nil
}

// A replacing context tells certmagic which certificate an order follows, so that the CA knows
// it too ("replaces", RFC 9773, section 5), and counts the order as the renewal that it
// is. certmagic sets that itself where it renews, and has no name for its key.
type replacing struct {
	context.Context
	leaf *x509.Certificate
}

// replacesKey is certmagic's, as fmt writes its type and its value.
const replacesKey = "certmagic.ctxKey ari_replaces"

// Value is context.Context's.
func (r replacing) Value(key any) any {
	if fmt.Sprintf("%T %v", key, key) == replacesKey {
		return r.leaf
	}
	return r.Context.Value(key)
}

// window asks the CA when a certificate should be renewed. RFC 9773.
func (i *issuer) window(ctx context.Context, leaf *x509.Certificate) (w keywire.Window, err error) {
	info, err := i.acme.GetRenewalInfo(ctx, certmagic.Certificate{Certificate: tls.Certificate{Leaf: leaf}})
	if err != nil {
		return w, err
	}
	w.Start, w.End = info.SuggestedWindow.Start.Unix(), info.SuggestedWindow.End.Unix()
	if info.RetryAfter != nil && info.RetryAfter.After(time.Unix(0, 0)) {
		w.Again = info.RetryAfter.Unix()
	}
	return w, nil
}

func (i *issuer) close() { i.cache.Stop() }
