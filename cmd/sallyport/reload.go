package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// This file is the reload command, which runs beside the service. What it asks for is
// in generations.go.

// reloadCommand asks the main warden for new cores and says what became of that.
func reloadCommand(args []string) int {
	return atControl("reload", args, func(control string) error {
		a, err := askReload(control, jail.Leave)
		if err != nil {
			return err
		}
		fmt.Println(a.text())
		fmt.Fprintln(os.Stderr, notRead)
		return nil
	})
}

// errEnded is a service that ended before it answered.
var errEnded = errors.New("the service ended, or was killed, before it answered")

// askReload asks at a control socket, and waits for as long as the reload takes. leave gives
// the caller's privilege away once it is connected.
func askReload(control string, leave func() error) (a reloadAnswer, err error) {
	fd, err := callControl(control)
	if err != nil {
		return a, err
	}
	defer unix.Close(fd)
	if err := leave(); err != nil {
		return a, err
	}
	if err := confirmed(fd, orderReload); err != nil {
		return a, err
	}
	text := make([]byte, statusPiece)
	n, _, err := sockets.Receive(fd, text)
	switch {
	case hungUp(err):
		return a, errEnded
	case err == nil:
		err = json.Unmarshal(text[:n], &a)
	}
	if err == nil && a.Error != "" {
		err = fmt.Errorf("not reloaded: %s; generation %d serves on, and the log says more", a.Error, a.Generation)
	}
	return a, err
}

// text is the answer for people: "reloaded: generation 2, cores 4711; generation 1 drains".
func (a *reloadAnswer) text() string {
	cores, drain := "cores", "; generations %s drain"
	if len(a.Cores) == 1 {
		cores = "core"
	}
	if len(a.Draining) == 1 {
		drain = "; generation %s drains"
	}
	text := fmt.Sprintf("reloaded: generation %d, %s %s", a.Generation, cores, listed(a.Cores))
	if len(a.Draining) > 0 {
		text += fmt.Sprintf(drain, listed(a.Draining))
	}
	return text
}

// listed is numbers for people: "1, 2".
func listed(numbers []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ", ")
}
