package keeper

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"sallyport/tlsload/keywire"
)

// optionsFor returns how to sign with a scheme, if it fits the key and the version.
func optionsFor(scheme keywire.Scheme, v version, public crypto.PublicKey) (crypto.SignerOpts, bool) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return crypto.Hash(0), scheme == keywire.Ed25519
	case *ecdsa.PublicKey:
		hash, bits := ecdsaHash(scheme)
		// "the old semantics did not constrain the signing curve" in TLS 1.2; in 1.3
		// hash and curve belong together. RFC 8446, section 4.2.3.
		return hash, hash != 0 && (v == tls12 || bits == public.Curve.Params().BitSize)
	case *rsa.PublicKey:
		if hash := pssHash(scheme); hash != 0 {
			return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}, true
		}
		// "RSASSA-PKCS1-v1_5 algorithms ... are not defined for use in signed TLS
		// handshake messages" of TLS 1.3. RFC 8446, section 4.2.3.
		hash := pkcs1Hash(scheme)
		return hash, hash != 0 && v == tls12
	default:
		return nil, false
	}
}

func ecdsaHash(scheme keywire.Scheme) (hash crypto.Hash, curveBits int) {
	switch scheme {
	case keywire.ECDSAWithSHA256:
		return crypto.SHA256, 256
	case keywire.ECDSAWithSHA384:
		return crypto.SHA384, 384
	case keywire.ECDSAWithSHA512:
		return crypto.SHA512, 521
	default:
		return 0, 0
	}
}

func pssHash(scheme keywire.Scheme) crypto.Hash {
	switch scheme {
	case keywire.PSSWithSHA256:
		return crypto.SHA256
	case keywire.PSSWithSHA384:
		return crypto.SHA384
	case keywire.PSSWithSHA512:
		return crypto.SHA512
	default:
		return 0
	}
}

func pkcs1Hash(scheme keywire.Scheme) crypto.Hash {
	switch scheme {
	case keywire.PKCS1WithSHA256:
		return crypto.SHA256
	case keywire.PKCS1WithSHA384:
		return crypto.SHA384
	case keywire.PKCS1WithSHA512:
		return crypto.SHA512
	default:
		return 0
	}
}
