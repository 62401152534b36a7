package conf

import (
	"fmt"
	"strconv"
	"strings"
)

// The ids of a machine without accounts of ours. They are in none of the ranges
// that systemd gives out: https://systemd.io/UIDS-GIDS/. Boot looks for running
// processes that have them; that is no fact of a configuration.
const (
	coreFixedID   = 60578
	keeperFixedID = 60579

	registrarFixedID = 60580
)

// users are the identities of core and keeper.
func (p *planner) users() Users {
	if !p.at.root() {
		return p.ownUsers()
	}
	users := Users{
		Core:   p.identity("user", "sallyport", coreFixedID),
		Keeper: p.identity("keeper_user", "sallyport-keeper", keeperFixedID),
		Switch: true,
	}
	if users.Core.UID == users.Keeper.UID && users.Core.UID != 0 {
		key := "keeper_user"
		if p.root.written(key) == nil {
			key = "user"
		}
		p.root.wrong(key, fault{
			fmt.Sprintf("makes core and keeper one user, uid %d", users.Core.UID),
			"give each its own: what the core can reach must not hold keys",
		})
	}
	return users
}

// ownUsers are the starter's: without root nobody can become another.
func (p *planner) ownUsers() Users {
	own := ID{UID: p.at.UID, GID: p.at.GID}
	if account, found := p.at.Accounts.userOf(own.UID); found {
		own.Name = account.Name
	}
	for _, key := range []string{"user", "keeper_user", "registrar_user"} {
		v := p.root.written(key)
		if v == nil {
			continue
		}
		id, f := p.at.Accounts.identity(v.text)
		switch {
		case !f.none():
			p.root.wrong(key, f)
		case id.UID != own.UID:
			p.notice(p.root.place(key), fault{fmt.Sprintf("has no effect: only root changes users, and this is uid %d", own.UID), ""})
		}
	}
	return Users{Core: own, Keeper: own}
}

// identity is the one that a key names, or else the account of ours, or else the fixed id.
func (p *planner) identity(key, account string, fixed int) ID {
	accounts := p.at.Accounts
	if v := p.root.written(key); v != nil {
		account, f := accounts.identity(v.text)
		if f.none() {
			f = checkUnprivileged(account.ID)
		}
		if !f.none() {
			p.root.wrong(key, f)
		}
		return account.ID
	}
	if ours, found := accounts.user(account); found {
		if f := checkUnprivileged(ours.ID); !f.none() {
			p.root.wrong(key, fault{"is account " + account + ", and " + f.what, f.hint})
		}
		return ours.ID
	}
	if holder := accounts.holder(fixed); holder != "" {
		p.root.wrong(key, fault{
			fmt.Sprintf("is not written, there is no account %s, and %d belongs to %s", account, fixed, holder),
			"useradd --system --no-create-home --shell /usr/sbin/nologin " + account,
		})
	}
	return ID{UID: fixed, GID: fixed}
}

// identity reads "name", "1000", and either with ":group".
func (a Accounts) identity(written string) (Account, fault) {
	name, groupName, hasGroup := strings.Cut(written, ":")
	account, found := a.user(name)
	if n, numeric := parseID(name); !found && numeric {
		account, found = a.userOf(n)
		if !found {
			account, found = Account{ID: ID{UID: n, GID: n}}, true
		}
	}
	if !found {
		return Account{}, fault{
			"is no account: " + strconv.Quote(name),
			"useradd --system --no-create-home --shell /usr/sbin/nologin " + name + ", or write a number",
		}
	}
	if !hasGroup {
		return account, fault{}
	}
	gid, found := a.group(groupName)
	if !found {
		gid, found = parseID(groupName)
	}
	if !found {
		return Account{}, fault{"names no group: " + strconv.Quote(groupName), "write a group of /etc/group, or a number"}
	}
	account.GID = gid
	return account, fault{}
}

// checkUnprivileged refuses what a process of ours never is.
func checkUnprivileged(id ID) fault {
	switch {
	case id.UID == 0:
		return fault{"is root", "nothing of sallyport runs as root: leave it out, or name an account of its own"}
	case id.GID == 0:
		return fault{"has root's group", "name a group of its own, as " + strconv.Itoa(id.UID) + ":" + strconv.Itoa(id.UID)}
	}
	return fault{}
}
