package main

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// This file finds the limits that start scripts, shells and container engines set where
// nobody looks.

// A limit is one of getrlimit(2).
type limit struct {
	resource int
	name     string
	least    uint64 // below it, it is worth a warning
	danger   string
	hint     string
}

// limits are those that a service feels.
func limits() []limit {
	const all = ^uint64(0)
	return []limit{
		{unix.RLIMIT_NOFILE, "open files", openFilesFew, "a client takes one, and its request another", "LimitNOFILE= of a unit, ulimit -Hn, --ulimit nofile= of a container"},
		{unix.RLIMIT_NPROC, "processes and threads", 256, "a process that dies cannot be started again", "LimitNPROC= of a unit, ulimit -Hu, --ulimit nproc= of a container"},
		{unix.RLIMIT_AS, "address space", all, "Go reserves much more than it uses: processes die when they grow", "LimitAS=infinity, or ulimit -Hv unlimited; MemoryMax= counts what is used"},
		{unix.RLIMIT_DATA, "data", all, "processes die when they grow", "LimitDATA=infinity, or ulimit -Hd unlimited; MemoryMax= counts what is used"},
		{unix.RLIMIT_CPU, "seconds of processor", all, "each core is killed when it has used them", "LimitCPU=infinity, or ulimit -Ht unlimited"},
		{unix.RLIMIT_FSIZE, "size of files", all, "bodies of that size do not wait in the spool, and a log file ends there", "LimitFSIZE=infinity, or ulimit -Hf unlimited"},
	}
}

// hiddenLimits are the limits of this process that are too low.
func hiddenLimits() (found []conf.Mistake) {
	for _, l := range limits() {
		var now unix.Rlimit
		if err := unix.Prlimit(0, l.resource, nil, &now); err != nil || now.Max >= l.least {
			continue
		}
		found = append(found, conf.Mistake{What: fmt.Sprintf("limit of %s is %d: %s", l.name, now.Max, l.danger), Hint: l.hint})
	}
	return found
}

// sayLimits warns of them at a start.
func sayLimits(log *slog.Logger) {
	for _, found := range hiddenLimits() {
		log.Warn("limit too low", "what", found.What, "hint", found.Hint)
	}
}
