package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Accounts are what the passwd, group and subuid files of a machine say. They
// are read here, because os/user asks the C library or, in a static build,
// reads the same files one name at a time.
type Accounts struct {
	Users        []Account
	Groups       []Group
	Subordinates []Subordinates
}

// An Account is one line of passwd(5).
type Account struct {
	ID
	Home, Shell string // "" when the line has none
}

// A Group is one line of group(5).
type Group struct {
	Name    string
	GID     int
	Members []string // beside those whose account names it
}

// Subordinates are the ids from First to First+Count-1 that belong to the
// containers of an account: one line of subuid(5).
type Subordinates struct {
	Owner        string
	First, Count int
}

// idMax is the highest id a process may have: 1<<32 - 1 is "no change" in setresuid(2).
const idMax = 1<<32 - 2

// AccountFiles are the files that accounts are read from.
func AccountFiles() []string { return []string{"/etc/passwd", "/etc/group", "/etc/subuid"} }

// ReadAccounts reads the AccountFiles by read, as os.ReadFile does. A file
// that is not there says nothing, as in an image from scratch; a line that is
// not understood (NIS's "+") is passed over, as the C library does.
func ReadAccounts(read func(path string) ([]byte, error)) (Accounts, error) {
	var a Accounts
	lines := []func(fields []string){a.addUser, a.addGroup, a.addSubordinates}
	for i, path := range AccountFiles() {
		text, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Accounts{}, fmt.Errorf("conf: read accounts: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			lines[i](strings.Split(strings.TrimSpace(line), ":"))
		}
	}
	return a, nil
}

// addUser adds a line of passwd(5): name:password:uid:gid:comment:home:shell.
func (a *Accounts) addUser(fields []string) {
	if len(fields) < 4 {
		return
	}
	uid, uidOK := parseID(fields[2])
	gid, gidOK := parseID(fields[3])
	if !uidOK || !gidOK {
		return
	}
	account := Account{ID: ID{Name: fields[0], UID: uid, GID: gid}}
	if len(fields) == 7 {
		account.Home, account.Shell = fields[5], fields[6]
	}
	a.Users = append(a.Users, account)
}

// addGroup adds a line of group(5): name:password:gid:members.
func (a *Accounts) addGroup(fields []string) {
	if len(fields) < 3 {
		return
	}
	gid, ok := parseID(fields[2])
	if !ok {
		return
	}
	group := Group{Name: fields[0], GID: gid}
	if len(fields) == 4 && fields[3] != "" {
		group.Members = strings.Split(fields[3], ",")
	}
	a.Groups = append(a.Groups, group)
}

// addSubordinates adds a line of subuid(5): owner:first:count.
func (a *Accounts) addSubordinates(fields []string) {
	if len(fields) != 3 {
		return
	}
	first, firstOK := parseID(fields[1])
	count, countOK := parseID(fields[2])
	if firstOK && countOK {
		a.Subordinates = append(a.Subordinates, Subordinates{Owner: fields[0], First: first, Count: count})
	}
}

// user finds an account by its name.
func (a Accounts) user(name string) (Account, bool) {
	for _, user := range a.Users {
		if user.Name == name {
			return user, true
		}
	}
	return Account{}, false
}

// userOf finds the first account with a uid.
func (a Accounts) userOf(uid int) (Account, bool) {
	for _, user := range a.Users {
		if user.UID == uid {
			return user, true
		}
	}
	return Account{}, false
}

// groupsOf are the groups of an account as initgroups(3) has them: its own, and
// those that list it.
func (a Accounts) groupsOf(user ID) []int {
	groups := []int{user.GID}
	for _, group := range a.Groups {
		if user.Name != "" && slices.Contains(group.Members, user.Name) && !slices.Contains(groups, group.GID) {
			groups = append(groups, group.GID)
		}
	}
	return groups
}

// isPrivate reports whether a group is that of one account alone, as useradd(8)
// makes one for each: its rights are the owner's.
func (a Accounts) isPrivate(gid int, owner ID) bool {
	for _, user := range a.Users {
		if user.GID == gid && user.UID != owner.UID {
			return false
		}
	}
	for _, group := range a.Groups {
		if group.GID == gid && slices.ContainsFunc(group.Members, func(name string) bool { return name != owner.Name }) {
			return false
		}
	}
	return gid == owner.GID
}

// group finds a group's id by its name.
func (a Accounts) group(name string) (gid int, found bool) {
	for _, group := range a.Groups {
		if group.Name == name {
			return group.GID, true
		}
	}
	return 0, false
}

// holder says who on this machine has a number, as uid, gid or subordinate id;
// "" when nobody has.
func (a Accounts) holder(id int) string {
	for _, user := range a.Users {
		if user.UID == id || user.GID == id {
			return "account " + user.Name + " in /etc/passwd"
		}
	}
	for _, group := range a.Groups {
		if group.GID == id {
			return "group " + group.Name + " in /etc/group"
		}
	}
	for _, s := range a.Subordinates {
		if id >= s.First && id-s.First < s.Count {
			return "the containers of " + s.Owner + " in /etc/subuid"
		}
	}
	return ""
}

// parseID reads a numeric id.
func parseID(text string) (id int, ok bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > idMax {
		return 0, false
	}
	return int(n), true
}
