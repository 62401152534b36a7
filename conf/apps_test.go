package conf

import (
	"fmt"
	"strings"
	"testing"
)

// TestSocketsMax: as many sockets as the bits of a word are taken, and no more.
func TestSocketsMax(t *testing.T) {
	for count, want := range map[int]string{
		socketsMax:     "",
		socketsMax + 1: "sallyport.toml:5: app.shop.socket: has more than 64",
	} {
		var sockets []string
		for i := range count {
			sockets = append(sockets, fmt.Sprintf(`"unix:/run/shop/%d.sock"`, i))
		}
		_, mistakes := parse("sallyport.toml", []byte("[[site]]\nhost = \"a.test\"\napp = \"shop\"\n[app.shop]\nsocket = ["+
			strings.Join(sockets, ", ")+"]\n"), operator())
		found := ""
		for _, m := range mistakes {
			found += fmt.Sprintf("%s:%d: %s: %s\n", m.File, m.Line, m.Key, m.What)
		}
		if strings.Contains(found, "socket") != (want != "") || !strings.Contains(found, want) {
			t.Errorf("%d sockets: %q", count, found)
		}
	}
}
