package jail

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// This file is what the registrar may reach that nobody else of ours does: the network, to
// connect and never to listen, and the few files that it takes to find a CA and to trust it.

// leaveMostButNetwork is leaveMost for the warden of the registrar, whose child connects.
func leaveMostButNetwork(e entrance) error { return leaveMostBut(e, unix.LANDLOCK_ACCESS_NET_BIND_TCP) }

// leaveAllButNetwork is leaveAll, with the right to connect and to read what resolves names.
func leaveAllButNetwork(e entrance) error {
	rules := append(e.stateRules(), fileRule{e.program, programRights})
	for _, folder := range foldersToRead() {
		fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
		defer unix.Close(fd)
		rules = append(rules, fileRule{fd, unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR})
	}
	return domain{fileAll, rules, unix.LANDLOCK_ACCESS_NET_BIND_TCP, scopeAll}.enter()
}

// foldersToRead are where the files are that resolve names, and the certificates of
// CAs, by their real paths: /etc/resolv.conf often is a link to somewhere below /run. A rule
// of landlock is for a folder because these files are replaced, by others of their name. All
// of it is open to every user; what is not, the registrar's own user does not get at.
func foldersToRead() []string {
	folders := []string{"/etc"}
	for _, path := range []string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(real))
		}
	}
	return folders
}
