package conf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// plain is a file without mistakes, to which the tests below add a line on top.
const plain = `
[listen]
https = []
[[site]]
host = "example.com"
app = "unix:/run/shop/web.sock"
`

func TestUsers(t *testing.T) {
	ours := []Account{account("sallyport", 200, 201), account("sallyport-keeper", 202, 203)}
	for _, c := range []struct {
		name, top string
		accounts  Accounts
		want      string // the ids, or the first line of the mistakes
	}{
		{"fixed", "", Accounts{}, "60578:60578 60579:60579"},
		{"accounts", "", Accounts{Users: ours}, "200:201 202:203"},
		{"one account", "", Accounts{Users: ours[:1]}, "200:201 60579:60579"},
		{"named", `user = "web"`, Accounts{Users: []Account{account("web", 33, 34)}}, "33:34 60579:60579"},
		{"number of an account", `user = "33"`, Accounts{Users: []Account{account("web", 33, 34)}}, "33:34 60579:60579"},
		{"number", `user = "1000"`, Accounts{}, "1000:1000 60579:60579"},
		{"numbers", `user = "1000:1001"`, Accounts{}, "1000:1001 60579:60579"},
		{"group", `user = "1000:www"`, Accounts{Groups: []Group{{Name: "www", GID: 80}}}, "1000:80 60579:60579"},
		{
			"taken by an account", "",
			Accounts{Users: []Account{account("joe", 60578, 100)}},
			"sallyport.toml: user: is not written, there is no account sallyport, and 60578 belongs to account joe in /etc/passwd",
		},
		{
			"taken by a group", "",
			Accounts{Groups: []Group{{Name: "joes", GID: 60579}}},
			"sallyport.toml: keeper_user: is not written, there is no account sallyport-keeper, and 60579 belongs to group joes in /etc/group",
		},
		{
			"taken by containers", "",
			Accounts{Subordinates: []Subordinates{{"joe", 60000, 579}}},
			"sallyport.toml: user: is not written, there is no account sallyport, and 60578 belongs to the containers of joe in /etc/subuid",
		},
		{"beside containers", "", Accounts{Subordinates: []Subordinates{{"joe", 60000, 578}, {"ann", 60580, 65536}}}, "60578:60578 60579:60579"},
		{"none", `user = "web"`, Accounts{}, `sallyport.toml:1: user: is no account: "web"`},
		{"no change", `user = "4294967295"`, Accounts{}, `sallyport.toml:1: user: is no account: "4294967295"`},
		{"root", `user = "root"`, Accounts{Users: []Account{account("root", 0, 0)}}, "sallyport.toml:1: user: is root"},
		{"zero", `keeper_user = "0:5"`, Accounts{}, "sallyport.toml:1: keeper_user: is root"},
		{"root's group", `user = "5:0"`, Accounts{}, "sallyport.toml:1: user: has root's group"},
		{"account of ours is root", "", Accounts{Users: []Account{account("sallyport", 0, 0)}}, "sallyport.toml: user: is account sallyport, and is root"},
		{"same", `user = "60579"`, Accounts{}, "sallyport.toml:1: user: makes core and keeper one user, uid 60579"},
	} {
		plan, mistakes := Parse("sallyport.toml", []byte(c.top+plain), Surroundings{Folder: "/etc", Accounts: c.accounts})
		got, _, _ := strings.Cut(mistakeText(mistakes), "\n")
		if plan != nil {
			got = idText(plan.Users.Core) + " " + idText(plan.Users.Keeper)
			if !plan.Users.Switch {
				t.Errorf("%s: no switch", c.name)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReadAccounts(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n+::::::\nbad\nx:x:many:1\nshop:x:990:991::/nonexistent:/usr/sbin/nologin")
	write(t, filepath.Join(folder, "etc/group"), "root:x:0:\nweb:x:33:shop,joe\nx:y\n")
	write(t, filepath.Join(folder, "etc/subuid"), "joe:100000:65536\n# no comment\n1000:200000:1\n")
	below := func(path string) ([]byte, error) { return os.ReadFile(folder + path) }
	got, err := ReadAccounts(below)
	want := Accounts{
		Users: []Account{
			{ID: ID{Name: "root"}, Home: "/root", Shell: "/bin/sh"},
			{ID: ID{Name: "shop", UID: 990, GID: 991}, Home: "/nonexistent", Shell: "/usr/sbin/nologin"},
		},
		Groups:       []Group{{Name: "root"}, {Name: "web", GID: 33, Members: []string{"shop", "joe"}}},
		Subordinates: []Subordinates{{"joe", 100000, 65536}, {"1000", 200000, 1}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	folder = t.TempDir()
	if got, err := ReadAccounts(below); err != nil || !reflect.DeepEqual(got, Accounts{}) {
		t.Errorf("without files: %+v, %v", got, err)
	}
	refuse := func(string) ([]byte, error) { return nil, os.ErrPermission }
	if _, err := ReadAccounts(refuse); !errors.Is(err, os.ErrPermission) {
		t.Error("accounts that cannot be read are none")
	}
}

func TestControlAndState(t *testing.T) {
	const hash = "33520a2eed2def9e" // of /etc/sallyport/sallyport.toml
	for _, c := range []struct {
		uid            int
		env            map[string]string
		control, state string
	}{
		{0, nil, "/run/sallyport/HASH.sock", "/var/lib/sallyport"},
		{0, map[string]string{"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}, "/run/sallyport/HASH.sock", "/var/lib/sallyport"},
		{0, map[string]string{"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/a"}, "/run/a/HASH.sock", "/var/lib/a"},
		{7, map[string]string{"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/home/joe/state"}, "/run/user/7/sallyport/HASH.sock", "/home/joe/state/sallyport"},
		{7, map[string]string{"HOME": "/home/joe", "XDG_STATE_HOME": "relative"}, "", "/home/joe/.local/state/sallyport"},
		{7, map[string]string{"RUNTIME_DIRECTORY": "/run/a"}, "/run/a/HASH.sock", ""},
		{7, nil, "", ""},
	} {
		at := Surroundings{UID: c.uid, Folder: "/etc/sallyport", Env: func(name string) string { return c.env[name] }}
		plan, mistakes := Parse("../sallyport/sallyport.toml", []byte(plain), at)
		if mistakes != nil {
			t.Fatal(mistakes)
		}
		if want := strings.Replace(c.control, "HASH", hash, 1); plan.Control != want || plan.State != c.state {
			t.Errorf("uid %d, %v: got %q, %q; want %q, %q", c.uid, c.env, plan.Control, plan.State, want, c.state)
		}
		if (len(plan.Notices) == 1) != (c.control == "") {
			t.Errorf("uid %d, %v: notices %v", c.uid, c.env, plan.Notices)
		}
	}
}

// idText is "uid:gid".
func idText(id ID) string {
	return strings.Join([]string{strconv.Itoa(id.UID), strconv.Itoa(id.GID)}, ":")
}

// write makes a file and its folder.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
