package conf

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// This file says whose processes an app's are. The rules are Passenger's ("User
// account sandboxing": a user that is named, else the owner of the app), but for
// their last resort, nobody: two apps of root would share it. What is not safe or
// not known is a mistake instead.

// A folder is what the rules look at.
type folder struct {
	path     string
	uid, gid int
	mode     uint32 // as stat(2) has it
}

// appUser is the user of the app that a command starts, which runs in the
// starter's folder.
func (p *planner) appUser(named string) (Account, fault) {
	account, f := p.namedUser(named)
	if named == "" && p.plan.Users.Switch {
		account, f = p.ownerOf(p.at.Real)
	}
	if !f.none() || !p.plan.Users.Switch {
		return account, f
	}
	for _, ours := range []ID{p.plan.Users.Core, p.plan.Users.Keeper} {
		if account.UID == ours.UID {
			return Account{}, fault{
				fmt.Sprintf("is uid %d, which is sallyport's own", account.UID),
				"give the app a user of its own: useradd --system --no-create-home --shell /usr/sbin/nologin app",
			}
		}
	}
	account.Groups = p.at.Accounts.groupsOf(account.ID)
	return account, fault{}
}

// namedUser is the user that --user names; for a plain user himself.
func (p *planner) namedUser(named string) (Account, fault) {
	account, found := p.at.Accounts.userOf(p.at.UID)
	if !found {
		account.ID = p.plan.Users.Core
	}
	account.GID = p.at.GID
	if named == "" {
		return account, fault{}
	}
	wanted, f := p.at.Accounts.identity(named)
	switch {
	case !f.none():
		return Account{}, f
	case p.plan.Users.Switch:
		return wanted, checkUnprivileged(wanted.ID)
	case wanted.UID != p.at.UID:
		return Account{}, fault{fmt.Sprintf("cannot be: only root changes users, and this is uid %d", p.at.UID), "leave it out, or start as root"}
	}
	return account, fault{}
}

// ownerOf is the owner of the folder at path, which has no links in it, if it is safe to
// go by that.
func (p *planner) ownerOf(path string) (Account, fault) {
	chain, err := p.at.foldersTo(path)
	if err != nil {
		return Account{}, fault{"is not given, and " + path + ": " + cause(err), "name the app's user, as in --user shop"}
	}
	return p.at.Accounts.owner(chain)
}

// foldersTo are the folder at path and all above it.
func (at Surroundings) foldersTo(path string) ([]folder, error) {
	var chain []folder
	for {
		stat, err := at.look(path)
		if err != nil {
			return nil, err
		}
		chain = append(chain, folder{path, int(stat.Uid), int(stat.Gid), stat.Mode})
		if path == "/" || path == "." {
			return chain, nil
		}
		path = filepath.Dir(path)
	}
}

// owner is the owner of the first folder of a chain. He must have an account and
// not be root, and nobody else may be able to put something in the place of what
// is his: the rest is what sshd_config(5) calls StrictModes, with a group that is
// the owner's alone let pass as in Debian's.
func (a Accounts) owner(chain []folder) (Account, fault) {
	own := chain[0]
	account, found := a.userOf(own.uid)
	refused := func(format string, facts ...any) (Account, fault) {
		hint := "name the app's user, as in --user shop"
		if found && own.uid != 0 {
			hint = "mend it, or say whom you mean: --user " + account.Name
		}
		return Account{}, fault{"is not given, and " + fmt.Sprintf(format, facts...), hint}
	}
	if own.uid == 0 {
		return refused("%s belongs to root: an app never runs as root", own.path)
	}
	if !found {
		return refused("%s belongs to uid %d, which has no account", own.path, own.uid)
	}
	for i, f := range chain {
		sticky := i > 0 && f.mode&unix.S_ISVTX != 0 // in it one replaces only one's own
		switch {
		case f.uid != 0 && f.uid != own.uid:
			return refused("%s, above the folder of %s, belongs to uid %d", f.path, account.Name, f.uid)
		case f.mode&0o002 != 0 && !sticky:
			return refused("%s may be written by others (mode %04o)", f.path, f.mode&0o777)
		case f.mode&0o020 != 0 && !sticky && !a.isPrivate(f.gid, account.ID):
			return refused("%s may be written by group %d (mode %04o)", f.path, f.gid, f.mode&0o777)
		}
	}
	return account, checkUnprivileged(account.ID)
}
