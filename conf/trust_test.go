package conf

import "testing"

func TestTrustCommand(t *testing.T) {
	const root = "/var/lib/sallyport/root.pem"
	for _, c := range []struct {
		name, root string
		uid        int
		folder     string // that exists
		want       string
	}{
		{
			"Debian", root, 0, "/usr/local/share/ca-certificates",
			"cp /var/lib/sallyport/root.pem /usr/local/share/ca-certificates/sallyport.crt && update-ca-certificates",
		},
		{
			"Fedora", root, 0, "/etc/pki/ca-trust/source/anchors",
			"cp /var/lib/sallyport/root.pem /etc/pki/ca-trust/source/anchors/sallyport.crt && update-ca-trust",
		},
		{
			"Arch", root, 0, "/etc/ca-certificates/trust-source/anchors",
			"cp /var/lib/sallyport/root.pem /etc/ca-certificates/trust-source/anchors/sallyport.crt && update-ca-trust",
		},
		{
			"SUSE", root, 0, "/etc/pki/trust/anchors",
			"cp /var/lib/sallyport/root.pem /etc/pki/trust/anchors/sallyport.crt && update-ca-certificates",
		},
		{
			"a user's", "/home/joe/it's here/root.pem", 1000, "/usr/local/share/ca-certificates",
			`sudo cp '/home/joe/it'\''s here/root.pem' /usr/local/share/ca-certificates/sallyport.crt && sudo update-ca-certificates`,
		},
		{"unknown", root, 0, "/etc", ""},
	} {
		got := TrustCommand(c.root, c.uid, func(folder string) bool { return folder == c.folder })
		if got != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.want)
		}
	}
}
