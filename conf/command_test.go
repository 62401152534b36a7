package conf

import (
	"slices"
	"strings"
	"testing"
)

func TestLaunch(t *testing.T) {
	const listener = "sh -c export LISTEN_PID=$$; exec \"$0\" \"$@\" "
	for _, c := range []struct{ command, want string }{
		{"gunicorn -w 2 app:app", "gunicorn -w 2 app:app"},
		{"/srv/venv/bin/gunicorn3 app:app", "/srv/venv/bin/gunicorn3 app:app"},
		{"python3 -m gunicorn app:app", "python3 -m gunicorn app:app"},
		{"uvicorn app:app", "uvicorn --fd 3 app:app"},
		{"uvicorn --fd 3 app:app", "uvicorn --fd 3 app:app"},
		{"uvicorn --fd {fd} app:app", "uvicorn --fd 3 app:app"},
		{"uvicorn --workers 3 app:app", "uvicorn --fd 3 --workers 3 app:app"},
		{"/usr/bin/python3.11 -u -m uvicorn app:app", "/usr/bin/python3.11 -u -m uvicorn --fd 3 app:app"},
		{"poetry run uvicorn app:app", "poetry run uvicorn --fd 3 app:app"},
		{"poetry run python -m uvicorn app:app", "poetry run python -m uvicorn --fd 3 app:app"},
		{"hypercorn app:app", "hypercorn -b fd://3 app:app"},
		{"hypercorn -b unix:{socket} app:app", "hypercorn -b unix:/run/x/app.sock app:app"},
		{"python3 -m daphne app:app", "python3 -m daphne -e systemd:domain=UNIX:index=0 app:app"},
		{"daphne -e systemd:domain=UNIX:index=0 app:app", "daphne -e systemd:domain=UNIX:index=0 app:app"},
		{"puma -t 1:4", "puma -b unix:///run/x/app.sock -t 1:4"},
		{"bundle exec puma", "bundle exec puma -b unix:///run/x/app.sock"},
		{"bundle3.1 exec unicorn -E production", "bundle3.1 exec unicorn -l /run/x/app.sock -E production"},
		{"unicorn_rails", "unicorn_rails -l /run/x/app.sock"},
		{"node server.js {fd}", "node server.js 3"},
		{"node server.js --listen={socket}", "node server.js --listen=/run/x/app.sock"},
		{"./shop --fd={fd} --name={name}", "./shop --fd=3 --name={name}"},
		{"uv run gunicorn app:app", "uv run " + listener + "gunicorn app:app"},
		{"uv run --frozen --no-sync uvicorn app:app", "uv run --frozen --no-sync " + listener + "uvicorn --fd 3 app:app"},
		{"uv run python -m daphne app:app", "uv run " + listener + "python -m daphne -e systemd:domain=UNIX:index=0 app:app"},
		{"uv run ./shop {fd}", "uv run " + listener + "./shop 3"},

		{"node server.js", "! is not told where to listen: server.listen({ fd:"},
		{"bundle exec node server.js", "! is not told where to listen: server.listen({ fd:"},
		{"thin start", `! "thin" is none of gunicorn, uvicorn, hypercorn, daphne, puma, unicorn, unicorn_rails, node: {fd} or {socket}`},
		{"python3 app.py", `! "python3" is none of`},
		{"python3 -m http.server", `! "http.server" is none of`},
		{"python3 -m", `! "python3" is none of`},
		{"bundle exec", `! "bundle" is none of`},
		{"uv run --with gunicorn gunicorn", `! "--with" is none of`}, // whose word is the next, only uv knows
		{"{fd}", `! "{fd}" is none of`},                              // a program has a name
	} {
		argv, f := launch(strings.Fields(c.command), "/run/x/app.sock")
		got := strings.Join(argv, " ")
		if want, refused := strings.CutPrefix(c.want, "! "); refused {
			what, hint, _ := strings.Cut(want, ": ")
			if !strings.Contains(f.what, what) || !strings.Contains(f.hint, hint) {
				t.Errorf("%s: %q, %v, want %s", c.command, got, f, want)
			}
		} else if got != want || !f.none() {
			t.Errorf("%s: %q, %v, want %q", c.command, got, f, want)
		}
	}
}

// TestLaunchKeeps shows that words stay words, and the starter's are not changed.
func TestLaunchKeeps(t *testing.T) {
	command := []string{"gunicorn", "--name", "two words", "", "app:app"}
	before := slices.Clone(command)
	argv, _ := launch(command, "/run/x/app.sock")
	if !slices.Equal(argv, before) || !slices.Equal(command, before) {
		t.Errorf("%q, %q", argv, command)
	}
}

func FuzzLaunch(f *testing.F) {
	f.Add("uv\nrun\npython\n-m\nuvicorn\napp:app")
	f.Add("node\n{fd}")
	f.Add("bundle\nexec\n")
	f.Fuzz(func(t *testing.T, lines string) {
		command := strings.Split(lines, "\n")
		argv, f := launch(command, "/s")
		if f.none() && (len(argv) < len(command) || argv[0] != command[0]) {
			t.Errorf("%q became %q", command, argv)
		}
		if !f.none() && (argv != nil || f.hint == "") {
			t.Errorf("%q: %q, %v", command, argv, f)
		}
	})
}
