package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// threeKinds starts a house with a site for each kind of key: p256.test, rsa.test and
// ed25519.test. A program that is needed and not there skips the test.
func threeKinds(t *testing.T, program string) (*scene, *house) {
	t.Helper()
	needProgram(t, program)
	s := newScene(t)
	conf := "listen = { http = [], https = [\"127.0.0.1:0\"] }\n"
	for kind, key := range threeKeys(t) {
		s.certificate(kind, key, kind+".test")
		conf += "[[site]]\nhost = \"" + kind + ".test\"\napp = \"unix:{dir}/app/app.sock\"\nhsts = \"8760h\"\n" +
			"tls = { cert = \"" + kind + ".pem\", key = \"" + kind + ".key\" }\n"
	}
	s.write("sallyport.toml", conf)
	s.app("gunicorn-sync")
	return s, s.start()
}

// TestInteropChromium: Chromium comes in with both versions of TLS. It knows no Ed25519 in certificates.
func TestInteropChromium(t *testing.T) {
	s, h := threeKinds(t, "/usr/bin/chromium")
	for _, kind := range []string{"p256", "rsa"} {
		leaf := served(h, kind+".test")
		if leaf == nil {
			t.Fatalf("%s.test has no certificate", kind)
		}
		pin := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		for _, version := range []string{"tls1.2", "tls1.3"} {
			cmd := s.as(exec.Command("/usr/bin/chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+s.path("chromium"),
				"--ssl-version-min="+version, "--ssl-version-max="+version, "--timeout=20000",
				"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(pin[:]),
				"--host-resolver-rules=MAP "+kind+".test:443 "+h.https, "--dump-dom", "https://"+kind+".test/hello"))
			if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), `"path": "/hello"`) {
				t.Errorf("%s, %s: %s", kind, version, out)
			}
		}
	}
}

// TestSSLScan: sslscan sees no protocol, cipher or group that one would switch off.
func TestSSLScan(t *testing.T) {
	s, h := threeKinds(t, "/usr/bin/sslscan")
	for _, kind := range []string{"p256", "rsa", "ed25519"} {
		out, code := s.shell("sslscan --no-colour --sni-name=" + kind + ".test " + h.https)
		if code != 0 {
			t.Errorf("%s: exit code %d: %s", kind, code, out)
		}
		for _, want := range []string{
			"SSLv2     disabled", "SSLv3     disabled", "TLSv1.0   disabled", "TLSv1.1   disabled", "TLSv1.2   enabled", "TLSv1.3   enabled",
			"TLSv1.3 not vulnerable to heartbleed", "TLSv1.2 not vulnerable to heartbleed", "Server supports TLS Fallback SCSV",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: does not say %q: %s", kind, want, out)
			}
		}
		ciphers := 0
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "Accepted") && !strings.HasPrefix(line, "Preferred") {
				continue
			}
			ciphers++
			if !strings.Contains(line, "GCM") && !strings.Contains(line, "CHACHA20") {
				t.Errorf("%s: %s", kind, line)
			}
		}
		if ciphers < 6 {
			t.Errorf("%s: %d ciphers: %s", kind, ciphers, out)
		}
	}
}

// A finding is what testssl.sh says of one thing.
type finding struct{ ID, Severity, Finding string }

// TestTestSSL: testssl.sh finds nothing, but what is of others.
func TestTestSSL(t *testing.T) {
	if os.Getenv("SALLYPORT_TESTSSL") == "" {
		t.Skip("SKIPPED, NOT TESTED: testssl.sh takes a minute: `make soak` runs it, with SALLYPORT_TESTSSL=1")
	}
	s, h := threeKinds(t, "/usr/bin/testssl")
	// Of the tool and of the app; of Go, which writes that tickets last a week, while the keys that
	// open them are gone after a day; and of the throw-away CA: nobody trusts it, it has no
	// revocation, and lives for a day.
	others := []string{
		"engine_problem", "security_headers", "TLS_session_ticket", "scanTime",

		"cert_trust", "cert_chain_of_trust", "cert_revocation", "cert_notAfter", "cert_expirationStatus", "cert_validityPeriod",
		"cert_extlifeSpan", "OCSP_stapling", "DNS_CAArecord", "certificate_transparency", "cert_ocspURL", "cert_crlDistributionPoints",
		"overall_grade", "cert_caIssuers",
	}
	kinds := []string{"p256", "rsa"}
	command := ""
	for _, kind := range kinds { // at the same time: each takes half a minute, mostly of waiting
		command += "testssl --quiet --color 0 --warnings off --ip 127.0.0.1 --nodns min --jsonfile " + kind + ".json --add-ca ca.pem " +
			"--protocols --std --server-defaults --headers --vulnerable --fs " +
			kind + ".test:" + strings.TrimPrefix(h.https, "127.0.0.1:") + " & "
	}
	out, _ := s.shell(command + "wait")
	for _, kind := range kinds {
		var all []finding
		if err := json.Unmarshal([]byte(s.read(kind+".json")), &all); err != nil || len(all) < 30 {
			t.Fatalf("%s: %d findings, %v: %s", kind, len(all), err, out)
		}
		seen := map[string]string{}
		for _, f := range all {
			seen[strings.Fields(f.ID)[0]] = f.Severity
			switch f.Severity {
			case "OK", "INFO":
			default:
				if !slices.Contains(others, strings.Fields(f.ID)[0]) {
					t.Errorf("%s: %s: %s: %s", kind, f.Severity, f.ID, f.Finding)
				}
			}
		}
		for _, id := range []string{"heartbleed", "CCS", "ROBOT", "CRIME_TLS", "LUCKY13", "SWEET32", "RC4", "PFS", "HSTS_time"} {
			if seen[id] == "" {
				t.Errorf("%s: nothing is said of %s: %v", kind, id, seen)
			}
		}
	}
}
