package conf

import "strings"

// TrustCommand is the one line that makes this machine trust the internal CA
// whose certificate is at root: it puts a copy where the system collects roots and
// has it collected. A later root takes the place of the copy. It is "" on a system
// that exists does not tell, whose folders it is asked about. A uid other than
// root's needs sudo.
//
// It is not for programs with roots of their own, such as Firefox, Node and
// Python's certifi; those are pointed at the file.
func TrustCommand(root string, uid int, exists func(folder string) bool) string {
	sudo := ""
	if uid != 0 {
		sudo = "sudo "
	}
	for _, system := range []struct{ folder, collect string }{
		{"/usr/local/share/ca-certificates", "update-ca-certificates"},   // Debian, Ubuntu, Alpine: update-ca-certificates(8)
		{"/etc/pki/ca-trust/source/anchors", "update-ca-trust"},          // Fedora, RHEL: update-ca-trust(8)
		{"/etc/ca-certificates/trust-source/anchors", "update-ca-trust"}, // Arch
		{"/etc/pki/trust/anchors", "update-ca-certificates"},             // SUSE
	} {
		if exists(system.folder) {
			// Debian collects what ends in .crt only.
			return sudo + "cp " + shellWord(root) + " " + system.folder + "/sallyport.crt && " + sudo + system.collect
		}
	}
	return ""
}

// shellWord is a path as a shell takes it for one word.
func shellWord(path string) string {
	odd := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@", r)
	}
	if path != "" && strings.IndexFunc(path, odd) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
