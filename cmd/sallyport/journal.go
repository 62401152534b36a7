package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
)

// This file is how mistakes are said where systemd's journal listens, which makes an
// entry of each line.

// inJournal reports whether stderr is the journal. "$JOURNAL_STREAM ... contains the
// device and inode numbers of the connection, formatted in decimal, separated by a colon
// ... programs should compare", systemd.exec(5): a redirected stderr is not.
func inJournal(stream string) bool {
	var stat unix.Stat_t
	if stream == "" || unix.Fstat(2, &stat) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// spoken is a mistake for stderr. For the journal it is one line, with the priority of an
// error before it, sd-daemon(3).
func spoken(mistake conf.Mistake, journal bool) string {
	if !journal {
		return mistake.String()
	}
	return "<3>" + strings.ReplaceAll(mistake.String(), "\n", "; ")
}

// complain prints mistakes for the operator and returns the exit code for them. It is the end:
// what is said takes no privilege, and root's is given away.
func complain(mistakes []conf.Mistake) int {
	_ = jail.Leave() // where root may not even do that, what is said is the same
	journal := inJournal(os.Getenv("JOURNAL_STREAM"))
	for _, mistake := range mistakes {
		fmt.Fprintln(os.Stderr, spoken(mistake, journal))
	}
	return exitMistake
}
