package conf

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The cases are testdata/NAME.toml with the plan in NAME.json or the mistakes in
// NAME.mistakes; -update rewrites both. The surroundings are in the name: a case whose name
// begins with "root-" is started by root, another by the user "operator".

// update is read by tests only; the flag package has no other way.
var update = flag.Bool("update", false, "rewrite the golden files")

// operator is a plain user in a session.
func operator() Surroundings {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/home/operator"}
	return Surroundings{
		UID: 1000, GID: 1000, Folder: "/etc/sallyport", Host: "Desk", Processors: 5,
		Env: func(name string) string { return env[name] },
		Accounts: Accounts{
			Users: []Account{
				account("root", 0, 0),
				account("operator", 1000, 1000),
				account("shop", 990, 990),
				account("wheeled", 991, 0),
			},
			Groups: []Group{{Name: "root"}, {Name: "operator", GID: 1000}, {Name: "web", GID: 33, Members: []string{"shop"}}},
		},
	}
}

// account is one without home and shell.
func account(name string, uid, gid int) Account {
	return Account{ID: ID{Name: name, UID: uid, GID: gid}}
}

// root is the operator with sudo.
func root() Surroundings {
	at := operator()
	at.UID, at.GID, at.Env = 0, 0, nil
	return at
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		t.Run(name, func(t *testing.T) { golden(t, strings.TrimSuffix(file, ".toml"), strings.HasPrefix(name, "root-")) })
	}
}

// golden runs one case.
func golden(t *testing.T, base string, asRoot bool) {
	text, err := os.ReadFile(base + ".toml")
	if err != nil {
		t.Fatal(err)
	}
	at := operator()
	if asRoot {
		at = root()
	}
	plan, mistakes := Parse("sallyport.toml", text, at)
	got, kind, other := mistakeText(mistakes), ".mistakes", ".json"
	if len(mistakes) == 0 {
		got, kind, other = planText(t, plan), ".json", ".mistakes"
		roundTrip(t, plan)
	}
	if *update {
		if err := os.WriteFile(base+kind, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(base + other); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(base + kind)
	if err != nil {
		t.Fatalf("%v\ngot\n%s", err, got)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// mistakeText is mistakes as an operator sees them.
func mistakeText(mistakes []Mistake) string {
	var b strings.Builder
	for _, m := range mistakes {
		b.WriteString(m.String() + "\n")
	}
	return b.String()
}

// planText is a plan as JSON.
func planText(t *testing.T, plan *Plan) string {
	t.Helper()
	text, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// roundTrip holds that the parts of a plan arrive as they were sent.
func roundTrip(t *testing.T, plan *Plan) {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var again Plan
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*plan, again) {
		t.Errorf("after JSON\n%+v\nwas\n%+v", again, *plan)
	}
}
