package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// checkCommand says everything that is wrong with a configuration, or sums it up.
func checkCommand(args []string) int {
	flags, path := newFlags("check")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	a := consult(inquiry{Command: "check", Path: *path})
	plan, mistakes := a.Plan, a.Mistakes
	if len(mistakes) > 0 {
		return complain(mistakes)
	}
	wrong, unknown := checkFiles(a)
	mistakes = slices.Concat(checkIDs(a.IDs), a.Unfit, wrong)
	blocked, unasked := checkWays(plan, *path)
	for _, notice := range slices.Concat(plan.Notices, hiddenLimits(), unknown, unasked) {
		fmt.Fprintln(os.Stderr, notice)
	}
	if len(mistakes) > 0 {
		return complain(append(mistakes, blocked...))
	}
	if len(blocked) > 0 {
		complain(blocked)
		return exitCheck
	}
	fmt.Printf("%s: fine: %s\n", *path, summary(plan))
	if a.Main.Trust != "" {
		fmt.Printf("once it has run, this makes the machine trust its internal CA: %s\n", a.Main.Trust)
	}
	return exitFine
}

// checkFiles opens the files of keeper and registrar as boot will. What only root may open
// is unknown to others, and no mistake.
func checkFiles(a answer) (wrong, unknown []conf.Mistake) {
	for i, file := range slices.Concat(a.Files, a.Account) {
		group := a.Plan.Users.Keeper.GID
		if i >= len(a.Files) {
			group = a.Plan.Users.Registrar.GID
		}
		fd, err := file.open(group)
		switch {
		case errors.Is(err, unix.EACCES):
			mistake := mistakeOf(file.Where, err)
			mistake.Hint = "not checked: run check as the user who will run sallyport"
			unknown = append(unknown, mistake)
		case err != nil:
			wrong = append(wrong, mistakeOf(file.Where, err))
		default:
			unix.Close(fd)
		}
	}
	return wrong, unknown
}

// summary is a plan in one line.
func summary(plan *conf.Plan) string {
	parts := []string{plural(len(plan.Core.Sites), "site"), plural(len(plan.Core.Apps), "app")}
	for _, listener := range plan.Listeners {
		part := "http on " + listener.Address
		if listener.Secure {
			part = "https on " + listener.Address
		}
		parts = append(parts, part)
	}
	parts = append(parts, plural(plan.Workers, "core")+" as "+nameOf(plan.Users.Core))
	if len(plan.Keeper.Certificates) > 0 {
		parts = append(parts, plural(len(plan.Keeper.Certificates), "certificate")+" kept as "+nameOf(plan.Users.Keeper))
	}
	if plan.Registrar != nil {
		parts = append(parts, "some of them from "+plan.Registrar.CA+" by "+nameOf(plan.Users.Registrar))
	}
	return strings.Join(parts, ", ")
}

// plural is "1 site", "2 sites".
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}

// nameOf is an identity as people call it.
func nameOf(who conf.ID) string {
	if who.Name == "" {
		return fmt.Sprint("uid ", who.UID)
	}
	return who.Name
}
