package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file builds the image of the Dockerfile, without network, and runs it as strictly as
// containers are run: `make soak` does.

const (
	// imageEnv switches it on: "1", or the name of an image that was built already.
	imageEnv = "SALLYPORT_IMAGE"
	// podmanEnv has more flags for podman run, which not every machine needs, such as
	// "--runtime runc --ulimit nofile=1024:1024".
	podmanEnv = "SALLYPORT_PODMAN"

	builder       = "docker.io/library/golang:1.26-bookworm" // as the Dockerfile has it
	imageBytesMax = 40 << 20
	imageUser     = 65532
)

// podman runs podman, and returns what it printed on stdout.
func podman(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("podman", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("podman %s: %v: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

// podmanFlags are those of this machine.
func podmanFlags() []string { return strings.Fields(os.Getenv(podmanEnv)) }

// newImage builds the image, or takes the one that is named.
func newImage(t *testing.T) string {
	t.Helper()
	needRoot(t)
	name := os.Getenv(imageEnv)
	if name == "" {
		t.Skip("SKIPPED, NOT TESTED: images are built by `make soak`, with " + imageEnv + "=1")
	}
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("SKIPPED, NOT TESTED: no podman on this machine")
	}
	if name != "1" {
		return name
	}
	if exec.Command("podman", "image", "exists", builder).Run() != nil {
		t.Skip("SKIPPED, NOT TESTED: the image is built without network, and there is no " + builder + " on this machine: podman pull it")
	}
	folder := t.TempDir()
	taken, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(taken) + "!Dockerfile\n!.dockerignore\n") {
		if name, is := strings.CutPrefix(strings.TrimSpace(line), "!"); is && name != "vendor" {
			if out, err := exec.Command("cp", "-a", "../"+name, folder).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	vendor := exec.Command("go", "mod", "vendor")
	vendor.Dir = folder
	vendor.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	if out, err := vendor.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	name = fmt.Sprintf("localhost/sallyport-e2e:%d", os.Getpid())
	// The network of the host, to --isolation=chroot the only one, is here one with nothing in it.
	build := exec.Command("unshare", "--net", "podman", "build", "--pull=never", "--format", "docker", "--isolation=chroot", "--network=host", "-t", name, folder)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("podman build: %v: %s", err, out)
	}
	t.Cleanup(func() { podman(t, "rmi", name) })
	return name
}

// A container is a sallyport that runs in one, in a network that has nothing but a loopback.
type container struct {
	*machine
	name string
}

// newContainer makes what a container mounts.
func newContainer(t *testing.T) *container {
	t.Helper()
	s := newScene(t)
	s.app("node")
	s.must(os.Mkdir(s.path("etc"), 0o755))
	s.certificate("etc/shop", p256(t), "shop.test", "moved.test")
	s.uid = imageUser // whose the files are that sallyport reads
	for _, name := range []string{"etc/shop.pem", "etc/shop.key"} {
		s.must(os.Chown(s.path(name), imageUser, imageUser))
	}
	return &container{&machine{scene: s, folder: "/bin"}, ""}
}

// configured writes the configuration, which begins with listen.
func (c *container) configured(listen string) {
	c.write("etc/sallyport.toml", listen+strings.ReplaceAll(machineFile, "/run/shop/", "/run/app/"))
}

// strict are the flags of every run: what is not said here, a container has not.
func (c *container) strict() []string {
	return slices.Concat([]string{
		"-d", "--network=none", "--read-only", "--cap-drop=ALL", "--user", fmt.Sprint(imageUser),
		"--security-opt", "no-new-privileges",
	}, podmanFlags())
}

// run starts a container, waits for its first answer, and says how long that took.
func (c *container) run(first string, args ...string) {
	t := c.t
	t.Helper()
	began := time.Now()
	c.name = podman(t, append([]string{"run"}, args...)...)
	t.Cleanup(func() {
		if t.Failed() {
			out, err := exec.Command("podman", "logs", c.name).CombinedOutput()
			t.Logf("%v: %s", err, out)
		}
		podman(t, "rm", "-f", "-v", c.name)
	})
	pid, err := strconv.Atoi(podman(t, "inspect", "-f", "{{.State.Pid}}", c.name))
	c.must(err)
	c.pid = pid
	await(t, "the first answer", func() bool {
		r := &regular{dial: c.dial(first)}
		defer r.leave()
		return r.ask() == nil
	})
	t.Logf("from podman run to the first answer: %v", time.Since(began).Round(time.Millisecond))
}

// exec runs a command of ours in the container.
func (c *container) exec(args ...string) (string, error) {
	out, err := exec.Command("podman", append([]string{"exec", c.name, "/bin/sallyport"}, args...)...).CombinedOutput()
	return string(out), err
}

// zombies are the processes of the container that nobody has waited for.
func (c *container) zombies() (found []string) {
	mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.pid))
	c.must(err)
	processes, err := filepath.Glob("/proc/[0-9]*/status")
	c.must(err)
	for _, path := range processes {
		facts, err := status(path)
		theirs, linkErr := os.Readlink(filepath.Dir(path) + "/ns/pid")
		if err == nil && linkErr == nil && theirs == mine && strings.HasPrefix(facts["State"], "Z") {
			found = append(found, facts["Name"]+" "+facts["Pid"])
		}
	}
	return found
}

// written are the files of the container that are not those of the image. Podman makes the
// points where it mounts.
func (c *container) written() (found []string) {
	points := []string{"/etc", "/run", "/var", "/dev", "/proc", "/sys", "/tmp", "/srv", "/usr", "/lib", "/lib64"}
	for line := range strings.Lines(podman(c.t, "diff", c.name)) {
		path := strings.Fields(line)[1]
		point := slices.ContainsFunc(points, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
		entry, err := os.Stat(podman(c.t, "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", c.name) + path)
		if !point || err == nil && entry.Mode().IsRegular() && entry.Size() > 0 {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// lives is the suite for a container.
func (c *container) lives(port, securePort string) {
	t := c.t
	t.Helper()
	urls := []string{"http://shop.test:" + port + "/hello", "https://shop.test:" + securePort + "/hello"}
	c.answers(urls...)
	c.powerlessOf(c.own())
	podman(t, "healthcheck", "run", c.name)
	if state := podman(t, "inspect", "-f", "{{.State.Healthcheck.Status}}", c.name); state != "healthy" {
		t.Errorf("health: %s", state)
	}
	crowd := c.crowd("127.0.0.1:"+port, "127.0.0.1:"+securePort)
	crowd.more(t, 20)
	if out, err := c.exec("reload", "-c", machineConfig); err != nil {
		t.Errorf("reload: %v: %s", err, out)
	}
	crowd.more(t, 50)
	crowd.stop()
	crowd.done.Wait()
	if len(crowd.lost) > 0 {
		t.Errorf("lost: %v", crowd.lost)
	}
	c.kill("sallyport-core")
	c.answers(urls...)
	if out, err := c.exec("privs", "--assert", "-c", machineConfig); err != nil {
		t.Errorf("privs --assert: %v: %s", err, out)
	}
	if z := c.zombies(); len(z) > 0 {
		t.Errorf("zombies: %v", z)
	}
	if w := c.written(); len(w) > 0 {
		t.Errorf("written: %v", w)
	}
	logs, err := exec.Command("podman", "logs", c.name).CombinedOutput()
	c.must(err)
	for line := range strings.Lines(string(logs)) {
		if strings.Contains(line, "jail incomplete") {
			t.Log(line)
			if strings.Contains(line, "seccomp") || strings.Contains(line, `"landlock"`) {
				t.Errorf("said: %s", line)
			}
		}
	}
	podman(t, "stop", "-t", "35", c.name)
	if code := podman(t, "inspect", "-f", "{{.State.ExitCode}}", c.name); code != "0" {
		t.Errorf("exit code %s", code)
	}
}

// TestImage builds the image and runs it in every way that its documentation names.
func TestImage(t *testing.T) {
	image := newImage(t)
	size, err := strconv.Atoi(podman(t, "image", "inspect", "-f", "{{.Size}}", image))
	if err != nil || size > imageBytesMax {
		t.Errorf("%d bytes, at most %d; %v", size, imageBytesMax, err)
	}
	t.Logf("the image has %d bytes", size)
	t.Run("high ports", func(t *testing.T) {
		c := newContainer(t)
		c.configured("listen = { http = [\":8080\"], https = [\":8443\"] }\n")
		c.run("127.0.0.1:8080", append(c.strict(), "-v", c.path("app")+":/run/app", "-v", c.path("etc")+":/etc/sallyport:ro", image)...)
		c.lives("8080", "8443")
	})
	t.Run("low ports", func(t *testing.T) {
		c := newContainer(t)
		c.configured("")
		c.run("127.0.0.1:80", append(c.strict(), "--cap-add=NET_BIND_SERVICE", "-v", c.path("app")+":/run/app", "-v", c.path("etc")+":/etc/sallyport:ro", image)...)
		c.lives("80", "443")
	})
	t.Run("serve", func(t *testing.T) { imageServes(t, image) })
	t.Run("rootless", func(t *testing.T) { imageRootless(t, image) })
}

// imageServes shows that sallyport is a good pid 1 for an app that it starts: it is this
// machine's node, in a container that sees its /usr.
func imageServes(t *testing.T, image string) {
	c := newContainer(t)
	c.run("127.0.0.1:8080", append(c.strict(),
		"-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro", "-v", c.path("app")+":/srv/app:ro", "-w", "/srv/app",
		image, "serve", "--listen", ":8080", "--user", fmt.Sprint(imageUser), "--", "/usr/bin/node", "server.js", "{fd}")...)
	c.answers("http://shop.test:8080/hello")
	if facts, err := status(fmt.Sprintf("/proc/%d/status", c.pid)); err != nil || !strings.HasSuffix(facts["NSpid"], " 1") || facts["Name"] != "sallyport" {
		t.Errorf("pid 1: %v, %v", facts, err)
	}
	for range 3 {
		c.kill("sallyport-core")
		c.answers("http://shop.test:8080/hello")
	}
	if z := c.zombies(); len(z) > 0 {
		t.Errorf("zombies: %v", z)
	}
	podman(t, "stop", "-t", "35", c.name)
	if code := podman(t, "inspect", "-f", "{{.State.ExitCode}}", c.name); code != "0" {
		t.Errorf("exit code %s", code)
	}
}
