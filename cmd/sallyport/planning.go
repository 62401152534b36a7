package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// This file is a planner: the process that reads the configuration for a command which may
// be root. It has no privilege, cannot open a file, and is gone when it has answered.

// plannerCommand is the whole life of a planner:
//
//	sallyport planner GIFTS
func plannerCommand(args []string) int {
	err := jail.Seal(jail.Planner)
	if err == nil {
		err = answerInquiry(args)
	}
	if err != nil {
		newLog(os.Stderr).Error("planner failed", "error", err)
		return exitMistake
	}
	return exitFine
}

// answerInquiry answers the question among the gifts.
func answerInquiry(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("planner: is started by other commands, not by hand")
	}
	gifts, err := sockets.TakeGifts(args[0])
	if err != nil {
		return err
	}
	var q inquiry
	if err := gifts.Decode("question", &q); err != nil {
		return err
	}
	text, err := json.Marshal(q.answer(gifts))
	if err != nil {
		return err
	}
	fd, err := gifts.FD("answer")
	if err != nil {
		return err
	}
	_, err = os.NewFile(uintptr(fd), "answer").Write(text)
	return err
}

// answer is what there is to say.
func (q *inquiry) answer(gifts sockets.Gifts) answer {
	a := answer{ReadyFD: -1}
	fail := func(what string) answer {
		a.Mistakes = []conf.Mistake{{What: what}}
		return a
	}
	// JSON has put U+FFFD there.
	if strings.Contains(q.Folder+q.Path, "\uFFFD") {
		return fail("the path of the configuration, or of the current folder, is not UTF-8")
	}
	a.Main.Means = meansOf(q.UID, string(q.Status), string(q.Maps))
	at, err := q.surroundings(gifts)
	if err != nil {
		return fail(err.Error())
	}
	var was *runningPlan
	if q.Command == "reload" {
		if was, err = q.readRunning(gifts); err != nil {
			a.Refused = err.Error()
			return a
		}
		if a.Main.File = was.Plan.File; q.Path == "" {
			return a
		}
	}
	if q.Command != "serve" {
		source := q.Source // with the descriptors that are ours
		for name, fd := range map[string]*int{"text": &source.Text, "folder": &source.Folder, "origin": &source.Origin} {
			if *fd >= 0 {
				if *fd, err = gifts.FD(name); err != nil {
					return fail(err.Error())
				}
			}
		}
		absolute := q.Path
		if !filepath.IsAbs(absolute) {
			absolute = filepath.Join(at.Folder, q.Path)
		}
		a.Control = conf.ControlPath(absolute, at)
		a.Plan, a.Mistakes = conf.Load(q.Path, source, at)
		a.complete(at)
		switch {
		case q.Command == "control":
			a.findControl(at)
		case was != nil && len(a.Mistakes) == 0:
			a.follow(was)
		}
		return a
	}
	var options conf.Options
	if options, a.ReadyFD, err = parseServe(flag.NewFlagSet("serve", flag.ContinueOnError), q.Words); err != nil {
		a.Refused = err.Error()
		return a
	}
	a.Plan, a.Mistakes = conf.Serve(options, at)
	a.complete(at)
	return a
}

// complete adds what follows from the plan, so that whoever acts on it has little to do.
func (a *answer) complete(at conf.Surroundings) {
	plan := a.Plan
	if plan == nil {
		return
	}
	a.IDs, a.Unfit, a.Files = fixedIDs(plan), checkDescriptors(plan), keeperFiles(plan)
	for _, managed := range plan.Managed {
		a.Entries = append(a.Entries, entryOf(managed.User.UID))
	}
	a.Main = duty{
		Name:     "core",
		Who:      plan.Users.Core,
		Sandbox:  plan.Sandbox,
		Drain:    plan.Core.DrainRequests + drainGrace,
		Upgrades: plan.Core.DrainUpgrades + drainGrace,
		Starter:  at.UID,
		File:     plan.File,
		Control:  plan.Control,
		Shared:   len(plan.Keeper.Certificates) > 0 && plan.Users.Core.UID == plan.Users.Keeper.UID,
		PIDFile:  plan.PIDFile,
		Trust:    trustHint(plan, at),
		Notices:  plan.Notices,
		Means:    a.Main.Means,
		Empty:    []string{"part", "board"},
	}
	if r := plan.Registrar; r != nil {
		a.Account, a.Public, a.Main.Folder = registrarFiles(r), isPublic(r.CA), plan.Keeper.ACME.Folder
	}
	slots := 0
	if plan.Core.H3 {
		workers := max(plan.Workers, runtime.NumCPU()) // as many as there may be after a reload
		slots = min(workers*board.Generations, sockets.SlotsMax)
	}
	for _, l := range plan.Listeners {
		where, err := sockets.ParseAddress(l.Address)
		if err != nil {
			a.Mistakes = append(a.Mistakes, conf.Mistake{Place: l.Where, What: err.Error()})
		}
		a.Addresses = append(a.Addresses, where)
		listener := listening{Gift: l.Gift, Text: l.Address, Secure: l.Secure}
		if l.TakesQUIC() {
			listener.Slots = slots
		}
		a.Main.Listeners = append(a.Main.Listeners, listener)
	}
	a.findTargets()
	a.Version, a.Keeper, a.Authority = version(), len(plan.Keeper.Certificates) > 0, plan.Keeper.Authority != nil
	a.Spools = plan.Workers * board.Generations
	if plan.Core.Spool.Folder == "" {
		for row := range a.Spools {
			a.Main.Empty = append(a.Main.Empty, rowName("spool", row))
		}
		a.Spools = 0
	}
}

// findControl leaves where the control socket of a running service is. A configuration that has
// become wrong since it was loaded does not keep an operator from stopping what
// runs on it: then it is the socket that it has by default.
func (a *answer) findControl(at conf.Surroundings) {
	if a.Plan != nil {
		if a.Control = a.Plan.Control; a.Control == "" {
			a.Mistakes = a.Plan.Notices
		}
		return
	}
	if _, err := at.Look(a.Control); err != nil {
		a.Control = ""
	}
}

// trustHint is how this machine is made to trust the internal CA of a plan, if there is
// one and it has a file.
func trustHint(plan *conf.Plan, at conf.Surroundings) string {
	if plan.Keeper.Authority == nil || plan.Keeper.Authority.Root == "" {
		return ""
	}
	root := plan.Keeper.Authority.Root
	exists := func(folder string) bool {
		_, err := at.Look(folder)
		return err == nil
	}
	return strings.TrimPrefix(conf.TrustCommand(root, at.UID, exists)+"; or curl --cacert "+root, "; or ")
}

// surroundings are those of whoever asks.
func (q *inquiry) surroundings(gifts sockets.Gifts) (conf.Surroundings, error) {
	at := conf.Surroundings{
		UID: q.UID, GID: q.GID, OneID: q.OneID, Folder: q.Folder, Real: q.Real, Processors: q.Processors,
		Env: func(name string) string { return q.Env[name] },
	}
	looks, err := gifts.FD("looks")
	if err != nil {
		return at, err
	}
	at.Look = func(path string) (unix.Stat_t, error) { return look(looks, path) }
	if at.Host, err = os.Hostname(); err != nil {
		return at, fmt.Errorf("find the name of this machine: %w", err)
	}
	at.Accounts, err = conf.ReadAccounts(func(path string) ([]byte, error) {
		if errno := q.Unread[path]; errno != 0 {
			return nil, &fs.PathError{Op: "open", Path: path, Err: errno}
		}
		fd, err := gifts.FD(filepath.Base(path))
		if err != nil {
			return nil, err
		}
		file := os.NewFile(uintptr(fd), path)
		defer file.Close()
		return io.ReadAll(file)
	})
	return at, err
}

// look asks what stat(2) says of a path.
func look(link int, path string) (stat unix.Stat_t, err error) {
	var facts [4 * 4]byte
	if len(path) > unix.PathMax {
		return stat, unix.ENAMETOOLONG
	}
	if _, err = unix.Write(link, []byte(path)); err != nil {
		return stat, err
	}
	if n, err := unix.Read(link, facts[:]); err != nil || n < len(facts) {
		return stat, fmt.Errorf("no word from process %d: %w", os.Getppid(), err)
	}
	fact := func(i int) uint32 { return binary.LittleEndian.Uint32(facts[4*i:]) }
	stat.Mode, stat.Uid, stat.Gid = fact(1), fact(2), fact(3)
	if errno := unix.Errno(fact(0)); errno != 0 {
		return stat, errno
	}
	return stat, nil
}
