package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// visitorUID is a user of the machine, who is nobody but himself.
const visitorUID = 4711

// TestSystemdUser starts the unit for users as one of them does, on ports that he may have.
func TestSystemdUser(t *testing.T) {
	m := newMachine(t)
	home := "/home/visitor"
	m.does("useradd", "-m", "-u", fmt.Sprint(visitorUID), "visitor")
	m.does("install", "-d", "-o", "visitor", "-g", "visitor", home+"/.local/bin", home+"/.config/sallyport", home+"/.config/systemd/user")
	m.does("sh", "-c", "cp /usr/local/bin/sallyport* "+home+"/.local/bin/")
	m.does("cp", unitFolder+"/sallyport-user.service", home+"/.config/systemd/user/sallyport.service")
	for _, name := range []string{"shop.pem", "shop.key"} {
		m.does("install", "-m", "0600", "-o", "visitor", "/etc/sallyport/"+name, home+"/.config/sallyport/"+name)
	}
	m.write("config", "listen = { http = [\":8080\"], https = [\":8443\"] }\n"+machineFile)
	m.install("config", home+"/.config/sallyport/sallyport.toml")
	m.does("systemctl", "start", fmt.Sprintf("user@%d", visitorUID))
	as := func(command ...string) (string, error) {
		return m.inside(append([]string{
			"setpriv", fmt.Sprintf("--reuid=%d", visitorUID), fmt.Sprintf("--regid=%d", visitorUID), "--init-groups",
			"env", fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", visitorUID), "HOME=" + home,
		}, command...)...)
	}
	must := func(command ...string) string {
		t.Helper()
		out, err := as(command...)
		if err != nil {
			journal, _ := m.inside("journalctl", "-b", "-n", "30", "-o", "cat") // beside what failed
			t.Fatalf("%s: %v: %s\n%s", strings.Join(command, " "), err, out, journal)
		}
		return out
	}
	must("systemctl", "--user", "daemon-reload")
	must("systemctl", "--user", "start", "sallyport")
	m.answers("http://shop.test:8080/hello", "https://shop.test:8443/hello")
	must("systemctl", "--user", "reload", "sallyport")
	must("env", fmt.Sprintf("RUNTIME_DIRECTORY=/run/user/%d/sallyport", visitorUID), home+"/.local/bin/sallyport", "privs", "--assert",
		"-c", home+"/.config/sallyport/sallyport.toml")
	m.uid, m.folder = visitorUID, home+"/.local/bin"
	m.powerlessOf(m.own())
	must("systemctl", "--user", "stop", "sallyport")
	if out := must("systemctl", "--user", "show", "-P", "Result", "sallyport"); strings.TrimSpace(out) != "success" {
		t.Errorf("stopped: %s", out)
	}
	if left := m.own(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
