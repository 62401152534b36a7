package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// readmeSocket is where the README puts an app.
const readmeSocket = "/run/shop/web.sock"

// TestReadme does what the README says, command by command as written, once
// with each app that it names. Ports 80 and 443 and the folder of the socket
// must be free for it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, block := range blocks(string(readme), "sh") {
		commands = append(commands, strings.Split(strings.TrimSpace(block), "\n")...)
	}
	if len(commands) < 2 || commands[0] != "make demo" || commands[1] != "make test" {
		t.Fatalf("the README begins with %q", commands)
	}
	serve, rest := commands[2:4], commands[4:]
	t.Run("serve", func(t *testing.T) { readServe(t, serve[0], serve[1]) })
	for _, app := range []string{"gunicorn", "puma"} {
		t.Run(app, func(t *testing.T) { readAlong(t, app, string(readme), rest) })
	}
}

// readServe serves an app from its folder, as a plain user: the shortest way.
func readServe(t *testing.T, serve, curl string) {
	s := newSceneFor(t, plainUser())
	s.must(os.CopyFS(s.dir, os.DirFS("apps")))
	s.must(os.Rename(s.path("wsgi.py"), s.path("shop.py")))
	s.must(os.Symlink(os.Getenv(binEnv), s.path("bin")))
	serverOf(t, "gunicorn-sync").installed(t)
	house := s.launch(exec.Command("/bin/sh", "-c", "exec "+serve))
	house.wait(t, "internal CA used")
	if out, code := s.shell(curl); code != 0 || !strings.Contains(out, `"path": "/"`) {
		t.Errorf("%s: exit code %d\n%s", curl, code, out)
	}
	if code := house.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestReadmePlainUser checks the file that the README gives a user without
// privileges: the same, with one line in front.
func TestReadmePlainUser(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("`(listen = [^`]+)`").FindStringSubmatch(string(readme))
	if line == nil {
		t.Fatal("the README does not say how to listen without root")
	}
	s := newSceneFor(t, plainUser())
	s.certificate("example", p256(t), "localhost")
	s.must(os.Rename(s.path("example.pem"), s.path("fullchain.pem")))
	s.must(os.Rename(s.path("example.key"), s.path("privkey.pem")))
	s.write("sallyport.toml", line[1]+"\n"+blocks(string(readme), "toml")[0])
	// The app is not there, which is the only thing that check may say.
	if out, code := s.shell("sallyport check"); code != 3 || strings.Count(out, "site.") != 1 || !strings.Contains(out, "there is no such") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// blocks returns the fenced blocks of a language.
func blocks(text, language string) (found []string) {
	for {
		_, rest, begun := strings.Cut(text, "\n```"+language+"\n")
		if !begun {
			return found
		}
		block, after, _ := strings.Cut(rest, "\n```")
		found, text = append(found, block), after
	}
}

// readAlong runs the commands in a folder that has what the README speaks of.
func readAlong(t *testing.T, app, readme string, commands []string) {
	needRoot(t)
	s := newScene(t)
	s.must(os.CopyFS(s.dir, os.DirFS("apps")))
	s.must(os.Rename(s.path("wsgi.py"), s.path("shop.py")))
	s.must(os.Symlink(os.Getenv(binEnv), s.path("bin")))
	s.certificate("example", p256(t), "localhost")
	leaf, err := os.ReadFile(s.path("example.pem"))
	s.must(err)
	s.write("fullchain.pem", string(leaf)+s.ca.PEM)
	s.must(os.Rename(s.path("example.key"), s.path("privkey.pem")))
	s.write("sallyport.toml", blocks(readme, "toml")[0])
	s.must(os.Mkdir("/run/shop", 0o755))
	t.Cleanup(func() { os.RemoveAll("/run/shop") })
	s.must(os.Chown("/run/shop", nobody, nobody))

	var house *house
	ran := map[string]bool{}
	for _, command := range commands {
		words := strings.Fields(command)
		switch {
		case words[0] == "gunicorn" || words[0] == "puma":
			if words[0] == app {
				s.background(app, command)
			}
		case command == "bin/sallyport run":
			house = s.launch(exec.Command("/bin/sh", "-c", "exec "+command))
			house.wait(t, "ready")
		default:
			if out, code := s.shell(command); code != 0 {
				t.Fatalf("%s: exit code %d\n%s", command, code, out)
			}
		}
		ran[words[0]] = true
	}
	if !ran[app] || !ran["curl"] || house == nil {
		t.Fatalf("the README has no longer what this test is made for: %q", commands)
	}
	if code := house.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// background starts an app as the README does, as a user of its own.
func (s *scene) background(app, command string) {
	s.t.Helper()
	if _, err := os.Stat("/usr/bin/" + app); err != nil {
		s.t.Skipf("SKIPPED, NOT TESTED: no %s on this machine", app)
	}
	cmd := s.as(exec.CommandContext(s.t.Context(), "/bin/sh", "-c", "exec "+command))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	s.must(cmd.Start())
	s.t.Cleanup(func() { endApp(cmd) })
	takes(s.t, readmeSocket)
}
