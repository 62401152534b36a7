package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Accounts are what the passwd, group and subuid files of a machine say. They
// are read here, because os/user asks the C library or, in a static build,
// reads the same files one name at a time.
type Accounts struct {
	Users        []ID
	Groups       []Group
	Subordinates []Subordinates
}

// A Group is one line of group(5).
type Group struct {
	Name string
	GID  int
}

// Subordinates are the ids from First to First+Count-1 that belong to the
// containers of an account: one line of subuid(5).
type Subordinates struct {
	Owner        string
	First, Count int
}

// idMax is the highest id a process may have: 1<<32 - 1 is "no change" in setresuid(2).
const idMax = 1<<32 - 2

// ReadAccounts reads etc/passwd, etc/group and etc/subuid below root. A file
// that is not there says nothing, as in an image from scratch; a line that is
// not understood (NIS's "+") is passed over, as the C library does.
func ReadAccounts(root string) (Accounts, error) {
	var a Accounts
	for _, file := range []struct {
		name string
		line func(fields []string)
	}{
		{"etc/passwd", a.addUser},
		{"etc/group", a.addGroup},
		{"etc/subuid", a.addSubordinates},
	} {
		text, err := os.ReadFile(filepath.Join(root, file.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Accounts{}, fmt.Errorf("conf: read accounts: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			file.line(strings.Split(strings.TrimSpace(line), ":"))
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
	if uidOK && gidOK {
		a.Users = append(a.Users, ID{Name: fields[0], UID: uid, GID: gid})
	}
}

// addGroup adds a line of group(5): name:password:gid:members.
func (a *Accounts) addGroup(fields []string) {
	if len(fields) < 3 {
		return
	}
	if gid, ok := parseID(fields[2]); ok {
		a.Groups = append(a.Groups, Group{Name: fields[0], GID: gid})
	}
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
func (a Accounts) user(name string) (ID, bool) {
	for _, user := range a.Users {
		if user.Name == name {
			return user, true
		}
	}
	return ID{}, false
}

// userOf finds the first account with a uid.
func (a Accounts) userOf(uid int) (ID, bool) {
	for _, user := range a.Users {
		if user.UID == uid {
			return user, true
		}
	}
	return ID{}, false
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
