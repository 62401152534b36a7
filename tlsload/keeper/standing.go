package keeper

import (
	"crypto/x509"
	"encoding/json"
	"strings"
	"time"

	"sallyport/sockets"
)

// A standing is how it stands with the certificate of a name, for sallyport status, which
// finds it in a file beside the certificate. The names of its JSON are a contract.
type standing struct {
	Host     string    `json:"host"`
	Source   string    `json:"source"`          // "acme", "internal", "file", or "clients" for those who issue theirs
	File     string    `json:"file,omitempty"`  // path of what has come from one
	Names    []string  `json:"names,omitempty"` // that are in it; only Host of those from a CA
	CA       string    `json:"ca"`
	Issuer   string    `json:"issuer"`        // of the certificate that is served; "" while there is none
	Serial   string    `json:"serial"`        // of the same, hexadecimal
	NotAfter time.Time `json:"not_after"`     // of the same
	Next     time.Time `json:"next,omitzero"` // when it is renewed, or the next try; not there if nobody here knows
	Attempts int       `json:"attempts"`      // that have failed since
	Error    string    `json:"error"`         // of the last; "" if it went well
}

// standingPrefix begins the names of these files.
const standingPrefix = "status/"

// certify adds what a certificate says.
func (line *standing) certify(leaf *x509.Certificate) {
	line.Issuer, line.Serial, line.NotAfter = leaf.Issuer.CommonName, leaf.SerialNumber.Text(16), leaf.NotAfter.UTC()
}

// note writes down how it stands with a name; without a folder, where the others are. What is served is
// what was read from it a moment ago.
func (s *schedule) note(n *named, failure error) {
	if n.dropped {
		return
	}
	line := standing{Host: n.name, Source: "acme", CA: s.ca, Next: n.due.UTC(), Attempts: n.attempts}
	if n.leaf != nil {
		line.certify(n.leaf)
	}
	if failure != nil {
		line.Error = strings.ToValidUTF8(failure.Error(), "?")
	}
	if s.folder == nil {
		s.keeper.changes.do(func() { s.keeper.showing.note(line) })
		return
	}
	text, err := json.Marshal(line)
	if err == nil {
		err = s.folder.Write(sockets.FileName(standingPrefix+n.name), append(text, '\n'))
	}
	if err != nil {
		s.log.Warn().Err(err).Str("host", n.name).Msg("status not written")
	}
}

// forget removes what note has written of a name that is no more.
func (s *schedule) forget(n *named) {
	if s.folder == nil {
		return
	}
	if err := s.folder.Remove(sockets.FileName(standingPrefix + n.name)); err != nil {
		s.log.Warn().Err(err).Str("host", n.name).Msg("status not removed")
	}
}
