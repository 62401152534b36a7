package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file gives keeper and registrar what certificates from a CA take: a folder to each,
// and the link by which requests go out and certificates come in.

// openIssuance makes all of that, if the plan has a registrar. What is the registrar's alone
// is in b.registrar, the rest in b.files.
func (b *boot) openIssuance() []conf.Mistake {
	r := b.Plan.Registrar
	if r == nil {
		return nil
	}
	mistakes := append(b.openFolders(r), openAll(b.Account, b.Plan.Users.Registrar.GID, &b.registrar)...)
	ours, theirs, err := sockets.Link()
	if err != nil {
		return append(mistakes, conf.Mistake{Place: r.Where, What: err.Error()})
	}
	b.files = append(b.files, sockets.Gift{Name: "registrar", FD: ours})
	b.registrar = append(b.registrar, sockets.Gift{Name: "keeper", FD: theirs})
	return mistakes
}

// registrarFiles lists the files of the operator that are for the registrar.
func registrarFiles(r *conf.Registrar) (files []keeperFile) {
	place := r.Where
	if r.RootFile != "" {
		place.Key = "tls.ca_root"
		files = append(files, keeperFile{Gift: "roots", Path: r.RootFile, Where: place})
	}
	if r.KeyFile != "" {
		place.Key = "tls.eab.key"
		files = append(files, keeperFile{Gift: "eab", Path: r.KeyFile, Key: true, Where: place})
	}
	return files
}

// openFolders opens the folders of both, or has both keep all in memory, where that is
// allowed.
func (b *boot) openFolders(r *conf.Registrar) []conf.Mistake {
	where := conf.Place{File: b.Plan.File, Key: "state"}
	lost := "is in memory"
	if r.Folder != "" {
		err := b.openBoth(r)
		var wrong *fileError
		switch {
		case errors.As(err, &wrong):
			return []conf.Mistake{{Place: where, What: wrong.Error(), Hint: wrong.hint}}
		case err != nil:
			lost = "cannot be had: " + err.Error()
		default:
			lost = losing(b.Plan.State)
		}
	}
	switch {
	case lost == "":
		return nil
	case !b.Plan.VolatileState && (b.Public || !strings.HasPrefix(lost, onFileSystem)):
		return []conf.Mistake{conf.VolatileState(where, lost)}
	case b.Plan.VolatileState:
		b.log.Warn("state is volatile", "reason", lost, "hint", "a start orders all certificates again")
	}
	if !strings.HasPrefix(lost, onFileSystem) {
		r.Folder, b.Plan.Keeper.ACME.Folder, b.Main.Folder = "", "", ""
	}
	return nil
}

// openBoth opens the state folder, and the two in it.
func (b *boot) openBoth(r *conf.Registrar) error {
	state, err := openState(b.Plan.State, b.Plan.Users.Keeper)
	if err != nil {
		return err
	}
	unix.Close(state)
	certificates, err := openState(b.Plan.Keeper.ACME.Folder, b.Plan.Users.Keeper)
	if err != nil {
		return err
	}
	account, err := openState(r.Folder, b.Plan.Users.Registrar)
	if err != nil {
		unix.Close(certificates)
		return err
	}
	b.files = append(b.files, sockets.Gift{Name: "state", FD: certificates})
	b.registrar = append(b.registrar, sockets.Gift{Name: "state", FD: account})
	return nil
}

// onFileSystem begins what losing says.
const onFileSystem = "is on "

// losing says on what kind of file system a folder is that a restart of the machine, or of
// the container, empties; "" where it is none.
func losing(path string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return "" // it was opened a moment ago
	}
	kinds := map[int64]string{
		unix.TMPFS_MAGIC: "memory (tmpfs)", unix.RAMFS_MAGIC: "memory (ramfs)",
		unix.OVERLAYFS_SUPER_MAGIC: "the writable layer of a container (overlay)",
	}
	if kind, volatile := kinds[int64(stat.Type)]; volatile {
		return onFileSystem + kind + ", which does not stay: " + path
	}
	return ""
}

// isPublic reports whether a CA is one of those that count what they issue, and cannot be
// asked for more.
func isPublic(ca string) bool {
	host, _, _ := strings.Cut(strings.TrimPrefix(ca, "https://"), "/")
	for _, public := range []string{
		"acme-v02.api.letsencrypt.org", "acme.zerossl.com", "dv.acme-v02.api.pki.goog", "api.buypass.com", "acme.ssl.com",
	} {
		if host == public {
			return true
		}
	}
	return false
}

// startRegistrar starts the warden of the registrar under the registrar's uid, and returns the
// leash that the main warden holds.
func (b *boot) startRegistrar(self int, main *duty) (sockets.Gift, error) {
	program, err := findProgram("sallyport-registrar")
	if err != nil {
		return sockets.Gift{}, err
	}
	gifts := append(sockets.Gifts{{Name: "program", FD: program}}, b.registrar...)
	theirs := duty{Name: "registrar", Who: b.Plan.Users.Registrar, Sandbox: b.Plan.Sandbox, Registrar: b.Plan.Registrar, Empty: []string{"part"}, Drain: keeperGrace}
	return theirs.start(stage{Role: jail.RegistrarWarden, program: jail.Program{FD: self}, gifts: gifts}, main)
}
