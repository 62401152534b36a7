package conf

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	const withTLS = "[[site]]\nhost = \"a.example\"\napp = \"unix:/run/shop/web.sock\"\ntls = { cert = \"a.pem\", key = \"private/a.key\" }\n"
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, folder string)
		want    string // the mistakes, with FOLDER for the folder
	}{
		{"fine", func(*testing.T, string) {}, ""},
		{
			"missing", func(t *testing.T, folder string) { remove(t, folder+"/sallyport.toml") },
			"sallyport.toml: cannot be opened: no such file or directory\nhint: name the file with -c\n",
		},
		{"folder", func(t *testing.T, folder string) {
			remove(t, folder+"/sallyport.toml")
			write(t, folder+"/sallyport.toml/x", "")
		}, "sallyport.toml: cannot be read: is a directory\nhint: name the file with -c\n"},
		{"large", func(t *testing.T, folder string) {
			write(t, folder+"/sallyport.toml", strings.Repeat("#", fileBytesMax+1))
		}, "sallyport.toml: is larger than 4194304 bytes\n"},
		{
			"written by others", func(t *testing.T, folder string) { chmod(t, folder+"/sallyport.toml", 0o646) },
			"sallyport.toml: may be written by others\nhint: chmod o-w FOLDER/sallyport.toml\n",
		},
		{
			"folder of others", func(t *testing.T, folder string) { chmod(t, folder, 0o777) },
			"sallyport.toml: is in a folder that others may write\nhint: chmod o-w FOLDER\n",
		},
		{"sticky folder", func(t *testing.T, folder string) { chmod(t, folder, 0o777|os.ModeSticky) }, ""},
		{"linked into a folder of others", func(t *testing.T, folder string) {
			write(t, folder+"/open/real.toml", withTLS)
			chmod(t, folder+"/open", 0o777)
			remove(t, folder+"/sallyport.toml")
			if err := os.Symlink("open/real.toml", folder+"/sallyport.toml"); err != nil {
				t.Fatal(err)
			}
		}, "sallyport.toml: is in a folder that others may write\nhint: chmod o-w FOLDER/open\n"},
		{
			"no key", func(t *testing.T, folder string) { remove(t, folder+"/private/a.key") },
			"sallyport.toml:4: site.tls.key: FOLDER/private/a.key: no such file or directory\nhint: paths are relative to the configuration\n",
		},
		{"folder for a certificate", func(t *testing.T, folder string) {
			remove(t, folder+"/a.pem")
			write(t, folder+"/a.pem/x", "")
		}, "sallyport.toml:4: site.tls.cert: FOLDER/a.pem: is a folder\nhint: paths are relative to the configuration\n"},
		{"all at once", func(t *testing.T, folder string) {
			write(t, folder+"/sallyport.toml", "worker = 1\n"+withTLS)
			chmod(t, folder+"/sallyport.toml", 0o666)
			remove(t, folder+"/private/a.key")
		}, "sallyport.toml: may be written by others\nhint: chmod o-w FOLDER/sallyport.toml\n" +
			"sallyport.toml:1: worker: is not a key\nhint: did you mean workers?\n" +
			"sallyport.toml:5: site.tls.key: FOLDER/private/a.key: no such file or directory\nhint: paths are relative to the configuration\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			chmod(t, folder, 0o755)
			write(t, folder+"/sallyport.toml", withTLS)
			write(t, folder+"/a.pem", "")
			write(t, folder+"/private/a.key", "")
			c.prepare(t, folder)
			at := operator()
			at.Folder = folder
			plan, mistakes := Load("sallyport.toml", Open(folder+"/sallyport.toml"), at)
			if got := strings.ReplaceAll(mistakeText(mistakes), folder, "FOLDER"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if (plan == nil) != (len(mistakes) > 0) {
				t.Errorf("plan %v with %d mistakes", plan, len(mistakes))
			}
		})
	}
}

// TestLoadAsRoot shows whose the file of a start by root, and its folder, may be.
func TestLoadAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: files of others take root")
	}
	const sticky = os.ModeSticky
	for _, c := range []struct {
		name      string
		uid, gid  int
		mode      os.FileMode
		whom, fix string // whom is "" where all is fine
	}{
		{"root's", 0, 65534, 0o640, "", ""},
		{"of another", 65534, 0, 0o600, "uid 65534", "chown root"},
		{"for a group", 0, 65534, 0o660, "group 65534", "chmod g-w"},
		{"for root's group", 0, 0, 0o660, "", ""},
		{"of who called sudo", 60613, 60614, 0o660, "", ""},
		{"for the group of another", 60613, 60613, 0o660, "group 60613", "chmod g-w"},
		{"for others", 0, 0, 0o602, "others", "chmod o-w"},
		{"sticky", 0, 65534, 0o777 | sticky, "", ""},
		{"sticky, of another", 65534, 0, 0o777 | sticky, "uid 65534", "chown root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			file := folder + "/sallyport.toml"
			write(t, file, "[[site]]\nhost = \"a.example\"\napp = \"unix:/run/shop/web.sock\"\ntls = \"off\"\n")
			give := func(path string, uid, gid int, mode os.FileMode) string {
				if err := os.Chown(path, uid, gid); err != nil {
					t.Fatal(err)
				}
				chmod(t, path, mode)
				at := root()
				at.Env = func(name string) string { return map[string]string{"SUDO_UID": "60613", "SUDO_GID": "60614"}[name] }
				_, mistakes := Load(file, Open(file), at)
				return mistakeText(mistakes)
			}
			want := ""
			if c.whom != "" {
				want = file + ": is in a folder that " + c.whom + " may write\nhint: " + c.fix + " " + folder + "\n"
			}
			if got := give(folder, c.uid, c.gid, c.mode); got != want {
				t.Errorf("folder: got %s, want %s", got, want)
			}
			give(folder, 0, 0, 0o755)
			if c.mode&sticky != 0 {
				return // which means nothing for a file
			}
			if c.whom != "" {
				want = file + ": may be written by " + c.whom + "\nhint: " + c.fix + " " + file + "\n"
			}
			if got := give(file, c.uid, c.gid, c.mode); got != want {
				t.Errorf("file: got %s, want %s", got, want)
			}
		})
	}
}

// remove removes a file.
// TestWorkers: by default there is a core for every other processor, and never more than
// a board has room for.
func TestWorkers(t *testing.T) {
	text := []byte("[listen]\nhttps = []\n[[site]]\nhost = \"a.example\"\napp = \"unix:/run/a.sock\"\n")
	for processors, want := range map[int]int{0: 1, 1: 1, 3: 1, 4: 2, 512: 256, 1024: 256} {
		at := operator()
		at.Processors = processors
		plan, mistakes := Parse("/etc/sallyport/sallyport.toml", text, at)
		if len(mistakes) > 0 {
			t.Fatal(mistakeText(mistakes))
		}
		if plan.Workers != want {
			t.Errorf("%d processors: %d workers, want %d", processors, plan.Workers, want)
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// chmod changes rights, whatever the umask.
func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestCoreKnowsNoPath holds that nothing in a core's part tells where the
// configuration or a key is.
func TestCoreKnowsNoPath(t *testing.T) {
	text := "[listen]\nhttp = [\":80\"]\n[[site]]\nhost = \"a.example\"\napp = \"shop\"\ntls = { cert = \"a.pem\", key = \"a.key\" }\n" +
		"[[site.route]]\npath = \"/x\"\napp = \"unix:/run/x/x.sock\"\n[app.shop]\nsocket = \"unix:/run/shop/web.sock\"\n"
	plan, mistakes := Parse("/secret/folder/sallyport.toml", []byte(text), operator())
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	core, err := json.Marshal(plan.Core)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"secret", "a.pem", "a.key"} {
		if strings.Contains(string(core), secret) {
			t.Errorf("%q is in %s", secret, core)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text []byte, asRoot bool) {
		at := operator()
		if asRoot {
			at = root()
		}
		plan, mistakes := Parse("sallyport.toml", text, at)
		if (plan == nil) != (len(mistakes) > 0) {
			t.Fatalf("plan %v with %d mistakes", plan, len(mistakes))
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, m := range mistakes {
			if m.What == "" || m.File != "sallyport.toml" || m.Line > lines {
				t.Errorf("%+v", m)
			}
		}
		if plan != nil {
			roundTrip(t, plan)
			complete(t, plan)
		}
	})
}

// complete holds what whoever acts on a plan takes for granted.
func complete(t *testing.T, plan *Plan) {
	t.Helper()
	core := plan.Core
	hold := func(what string, holds bool) {
		t.Helper()
		if !holds {
			t.Errorf("%s: %+v", what, plan)
		}
	}
	hold("top", plan.File != "" && plan.Sandbox != "" && plan.State != "" && plan.Control != "" && plan.Workers > 0)
	hold("users", plan.Users.Core.UID > 0 && plan.Users.Keeper.UID > 0)
	hold("two users", !plan.Users.Switch || plan.Users.Core.UID != plan.Users.Keeper.UID)
	hold("lists", len(plan.Listeners) > 0 && len(core.Listeners) == len(plan.Listeners) && len(core.Sites) > 0 && len(core.Apps) > 0)
	hold("certificates", core.Certificates == len(plan.Keeper.Certificates))
	hold("limits", core.Limits.HeadBytes > 0 && core.Limits.Fields > 0 && core.Limits.LineBytes > 0 && core.Limits.LineBytes <= core.Limits.HeadBytes)
	hold("core", core.MinTLS >= tls12 && core.Log.Level != "")
	for _, l := range plan.Listeners {
		hold("listener", l.Gift != "" && l.Address != "")
	}
	for _, s := range core.Sites {
		hold("site", len(s.Hosts) > 0 && len(s.Routes) > 0 && s.Certificate >= -1 && s.Certificate < core.Certificates)
		hold("handles", s.Handles == nil || len(s.Handles) == len(s.Hosts))
		hold("clients", s.Clients == nil || s.Certificate >= 0 && s.Clients.Door > 0 && plan.Keeper.Certificates[s.Clients.CA].Clients)
		for _, r := range s.Routes {
			hold("route", strings.HasPrefix(r.Path, "/") && r.App >= 0 && r.App < len(core.Apps))
		}
	}
	for _, a := range core.Apps {
		hold("app", a.Name != "" && len(a.Sockets) > 0 && a.MaxBody >= 0)
		for _, socket := range a.Sockets {
			hold("socket", filepath.IsAbs(socket) && len(socket) <= socketPathMax)
		}
	}
	authority := plan.Keeper.Authority
	for _, c := range plan.Keeper.Certificates {
		files := filepath.IsAbs(c.Cert) && filepath.IsAbs(c.Key) != c.Clients
		hold("certificate by ACME", !c.ACME || len(c.Hosts) == 1 && !c.Internal && !files && plan.Registrar != nil && plan.Keeper.ACME != nil)
		hold("certificate", len(c.Hosts) > 0 && files != (c.Internal || c.ACME) && (!c.Internal || authority != nil && !slices.Contains(c.Hosts, "*")))
	}
	if r := plan.Registrar; r != nil {
		hold("registrar", r.CA == plan.Keeper.ACME.CA && (r.HTTP || r.TLS) && (r.Folder != "" || plan.VolatileState) && core.ACME)
		hold("three users", !plan.Users.Switch || plan.Users.Registrar.UID != plan.Users.Core.UID && plan.Users.Registrar.UID != plan.Users.Keeper.UID)
	}
	hold("authority", authority == nil || filepath.IsAbs(authority.Secret) && filepath.IsAbs(authority.Root))
}
