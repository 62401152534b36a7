package e2e

import (
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// A certReport is what a program takes from status --json of a certificate, by the names that
// status --help promises.
type certReport struct {
	Host     string    `json:"host"`
	Source   string    `json:"source"`
	File     string    `json:"file"`
	Names    []string  `json:"names"`
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"`
	Disk     string    `json:"disk_serial"`
	NotAfter time.Time `json:"not_after"`
	Next     time.Time `json:"next"`
	Error    string    `json:"error"`
}

// certificates asks for the status of all certificates, by their first names.
func (s *scene) certificates() map[string]certReport {
	s.t.Helper()
	out, code := s.shell("sallyport status -c sallyport.toml --json")
	var r struct{ Certificates []certReport }
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		s.t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	found := map[string]certReport{}
	for _, c := range r.Certificates {
		found[c.Host] = c
	}
	return found
}

// TestCertificateStatus: status has every certificate, what is served and what is on the disk.
func TestCertificateStatus(t *testing.T) {
	needRoot(t)
	needProgram(t, "/usr/bin/openssl")
	s := newScene(t)
	cert, key, serial := s.pair(-time.Hour, time.Hour)
	s.put("shop", cert, key, 0, 0, 0o600) // of root alone
	s.issuer("staff")
	s.write("sallyport.toml", "state = \"state\"\n"+strings.Replace(six, "redirect = false", "clients = { ca = \"staff.pem\" }", 1)+`[[site]]
host = ["desk.internal", "192.0.2.1"]
app = "unix:{dir}/app/app.sock"
`)
	s.app("gunicorn-sync")
	h := s.start()
	number, _ := new(big.Int).SetString(serial, 10)
	all := s.certificates()
	shop := all["shop.test"]
	if shop.Source != "file" || shop.File != s.path("shop.pem") || shop.Serial != number.Text(16) || shop.Disk != shop.Serial ||
		shop.Issuer != "throw-away CA" || time.Until(shop.NotAfter).Round(time.Minute) != time.Hour {
		t.Errorf("%+v", shop)
	}
	desk := all["desk.internal"]
	if leaf := served(h, "desk.internal"); leaf == nil || desk.Source != "internal" || desk.Serial != leaf.SerialNumber.Text(16) ||
		!desk.NotAfter.Equal(leaf.NotAfter) || !desk.Next.Before(desk.NotAfter) || strings.Join(desk.Names, " ") != "desk.internal 192.0.2.1" {
		t.Errorf("%+v", desk)
	}
	if staff := all["staff CA"]; staff.Source != "clients" || staff.Disk != staff.Serial || staff.Serial == "" {
		t.Errorf("%+v", staff)
	}
	cert, key, next := s.pair(-time.Hour, time.Hour)
	s.put("shop", cert, key, 0, 0, 0o600)
	number, _ = new(big.Int).SetString(next, 10)
	if got := s.certificates()["shop.test"]; got.Serial != shop.Serial || got.Disk != number.Text(16) {
		t.Errorf("renewed on the disk alone: %+v", got)
	}
	out, code := s.shell("sallyport status -c sallyport.toml")
	if code != 0 || !strings.Contains(out, "ON DISK") || !strings.Contains(out, number.Text(16)) {
		t.Errorf("exit code %d: %s", code, out)
	}
	s.reread(2)
	await(t, "the status of the next table", func() bool {
		got := s.certificates()["shop.test"]
		return got.Serial == number.Text(16) && got.Disk == got.Serial
	})
	s.must(os.Remove(s.path("shop.pem")))
	if got := s.certificates()["shop.test"]; got.Disk != "" || got.Serial != number.Text(16) {
		t.Errorf("without the file: %+v", got)
	}
}
