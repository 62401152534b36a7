package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// accountsOfApps are joe with a group of his own, ann in the group of all users,
// and the two in the group web.
func accountsOfApps() Accounts {
	return Accounts{
		Users: []Account{
			account("root", 0, 0), account("joe", 1000, 1000), account("ann", 1001, 100), account("bob", 1002, 100), account("wheeled", 991, 0),
		},
		Groups: []Group{
			{Name: "joe", GID: 1000},
			{Name: "users", GID: 100},
			{Name: "web", GID: 33, Members: []string{"joe", "ann"}},
			{Name: "again", GID: 1000, Members: []string{"joe"}},
		},
	}
}

// TestOwner holds the rules: Passenger's three owners first.
func TestOwner(t *testing.T) {
	const sticky = unix.S_ISVTX | 0o777
	top := folder{"/", 0, 0, 0o755}
	for _, c := range []struct {
		name  string
		chain []folder
		want  string // the account, or what is wrong
	}{
		{"root", []folder{{"/srv/shop", 0, 0, 0o755}, top}, "! /srv/shop belongs to root: an app never runs as root"},
		{"no account", []folder{{"/srv/shop", 4242, 0, 0o755}, top}, "! /srv/shop belongs to uid 4242, which has no account"},
		{"joe", []folder{{"/srv/shop", 1000, 1000, 0o755}, top}, "joe"},

		{"root's group", []folder{{"/srv/shop", 991, 0, 0o755}, top}, "! has root's group"},
		{"open to all", []folder{{"/srv/shop", 1000, 1000, 0o777}, top}, "! /srv/shop may be written by others (mode 0777)"},
		{"open to all, sticky", []folder{{"/srv/shop", 1000, 1000, sticky}, top}, "! /srv/shop may be written by others"},
		{"open to his own group", []folder{{"/srv/shop", 1000, 1000, 0o775}, top}, "joe"},
		{"open to another group", []folder{{"/srv/shop", 1000, 33, 0o775}, top}, "! /srv/shop may be written by group 33 (mode 0775)"},
		{"open to the group of all users", []folder{{"/srv/shop", 1001, 100, 0o775}, top}, "! /srv/shop may be written by group 100"},
		{"below his home", []folder{{"/home/joe/shop", 1000, 1000, 0o755}, {"/home/joe", 1000, 1000, 0o700}, {"/home", 0, 0, 0o755}, top}, "joe"},
		{"below another's home", []folder{{"/home/ann/shop", 1000, 1000, 0o755}, {"/home/ann", 1001, 100, 0o755}, top}, "! /home/ann, above the folder of joe, belongs to uid 1001"},
		{"below an open folder", []folder{{"/srv/shop", 1000, 1000, 0o755}, {"/srv", 0, 0, 0o777}, top}, "! /srv may be written by others"},
		{"below a sticky folder", []folder{{"/tmp/shop", 1000, 1000, 0o755}, {"/tmp", 0, 0, sticky}, top}, "joe"},
		{"below a folder of a group", []folder{{"/srv/shop", 1000, 1000, 0o755}, {"/srv", 0, 50, 0o775}, top}, "! /srv may be written by group 50"},
	} {
		got, f := accountsOfApps().owner(c.chain)
		want, refused := strings.CutPrefix(c.want, "! ")
		switch {
		case !refused:
			if !f.none() || got.Name != want {
				t.Errorf("%s: %v, %v", c.name, got, f)
			}
		case !strings.Contains(f.what, want) || f.hint == "":
			t.Errorf("%s: %v, %v, want %s", c.name, got, f, want)
		}
	}
}

// TestFoldersTo shows that whoever starts is asked about each folder on the way.
func TestFoldersTo(t *testing.T) {
	dir := t.TempDir()
	var at Surroundings
	chain, err := at.foldersTo(dir)
	if err != nil || chain[0].path != dir || chain[0].uid != os.Getuid() || chain[len(chain)-1].path != "/" {
		t.Errorf("%v, %v", chain, err)
	}
	if _, err := at.foldersTo(filepath.Join(dir, "absent")); err == nil {
		t.Error("what is absent has folders")
	}
	at.Look = func(path string) (unix.Stat_t, error) {
		return unix.Stat_t{Uid: uint32(len(path)), Gid: 1, Mode: unix.S_IFDIR | 0o755}, nil
	}
	if chain, err = at.foldersTo("/srv/x"); err != nil || len(chain) != 3 || chain[0].uid != 6 || chain[1].uid != 4 || chain[2].gid != 1 {
		t.Errorf("%v, %v", chain, err)
	}
}

// TestAppUser shows whom --user makes the app's user.
func TestAppUser(t *testing.T) {
	for _, c := range []struct {
		uid   int
		named string
		want  string // "uid:gid [groups]", or what is wrong
	}{
		{0, "joe", "1000:1000 [1000 33]"},
		{0, "1000", "1000:1000 [1000 33]"},
		{0, "ann", "1001:100 [100 33]"},
		{0, "ann:web", "1001:33 [33]"},
		{0, "4242", "4242:4242 [4242]"},
		{0, "root", "! is root"},
		{0, "0", "! is root"},
		{0, "wheeled", "! has root's group"},
		{0, "nobody at all", "! is no account"},
		{0, "60578", "! is uid 60578, which is sallyport's own"},
		{0, "60579", "! is uid 60579, which is sallyport's own"},
		{0, "", "! is not given, and /absent: no such file or directory"},
		{1000, "", "1000:1000 []"},
		{1000, "joe", "1000:1000 []"},
		{1000, "ann", "! cannot be: only root changes users, and this is uid 1000"},
		{4242, "", "4242:4242 []"},
	} {
		at := Surroundings{UID: c.uid, GID: c.uid, Folder: "/absent", Real: "/absent", Accounts: accountsOfApps()}
		plan, mistakes := Serve(Options{Command: []string{"gunicorn"}, User: c.named}, at)
		if want, refused := strings.CutPrefix(c.want, "! "); refused {
			if len(mistakes) != 1 || mistakes[0].Key != "--user" || !strings.Contains(mistakes[0].What, want) || mistakes[0].Hint == "" {
				t.Errorf("uid %d, %q: %v, want %s", c.uid, c.named, mistakes, want)
			}
			continue
		}
		if plan == nil {
			t.Errorf("uid %d, %q: %v", c.uid, c.named, mistakes)
			continue
		}
		user := plan.Managed[0].User
		if got := fmt.Sprint(idText(user.ID), " ", user.Groups); got != c.want {
			t.Errorf("uid %d, %q: %s, want %s", c.uid, c.named, got, c.want)
		}
	}
}
