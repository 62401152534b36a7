package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestExamples checks the files that conf/examples gives to those who run
// containers, on this machine's paths.
func TestExamples(t *testing.T) {
	s := newScene(t)
	s.app("node")
	s.certificate("shop", p256(t), "shop.example.com")
	here := strings.NewReplacer(
		"/run/app/web.sock", "{dir}/app/app.sock",
		"fullchain.pem", "shop.pem", "privkey.pem", "shop.key",
		"/etc/shop-tls/tls.crt", "shop.pem", "/etc/shop-tls/tls.key", "shop.key",
	)
	plain, err := os.ReadFile("../conf/examples/sallyport.toml")
	s.must(err)
	pod, err := os.ReadFile("../conf/examples/pod.yaml")
	s.must(err)
	for name, text := range map[string]string{"sallyport.toml": string(plain), "pod.yaml": literal(string(pod), "sallyport.toml")} {
		s.write("sallyport.toml", here.Replace(text))
		if out, code := s.shell("sallyport check"); code != 0 || !strings.Contains(text, "shop.example.com") {
			t.Errorf("%s: exit code %d\n%s\n%s", name, code, out, text)
		}
	}
}

// TestImageSources shows that the image is built with every folder that the
// programs are made of: all but those named in .dockerignore stay outside.
func TestImageSources(t *testing.T) {
	ignore, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	taken := strings.Split(string(ignore), "\n")
	for _, dep := range goList(t, "-deps", "./cmd/...") {
		path, ours := strings.CutPrefix(dep, module)
		folder, _, _ := strings.Cut(path, "/")
		if ours && !slices.Contains(taken, "!"+folder) {
			t.Errorf("%s is not in the image's build", dep)
		}
	}
}

// literal returns the text of a literal block in YAML, "key: |", which ends with
// the first line that is indented less.
func literal(yaml, key string) string {
	_, rest, _ := strings.Cut(yaml, "  "+key+": |\n")
	var text strings.Builder
	for line := range strings.Lines(rest) {
		inner, indented := strings.CutPrefix(line, "    ")
		if !indented && strings.TrimSpace(line) != "" {
			break
		}
		text.WriteString(inner)
	}
	return text.String()
}
