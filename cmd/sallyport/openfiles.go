package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// openFilesFew is a limit that a busy service is likely to meet: some shells and start
// scripts, and container engines, set lower ones where nobody looks.
const openFilesFew = 4096

// limitFiles makes the limit of open files, for this process and all that it will start,
// what max_open_files says. Go raises the soft limit of each program
// to the hard one, as the os package says.
func limitFiles(plan *conf.Plan) []conf.Mistake {
	var limit unix.Rlimit
	err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit)
	wanted := uint64(plan.OpenFiles)
	if err == nil && wanted > 0 && wanted != limit.Max {
		before := limit.Max
		limit = unix.Rlimit{Cur: wanted, Max: wanted}
		if err = unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			err = fmt.Errorf("hard limit of the start is %d: %w", before, err)
		}
	}
	if err == nil {
		return nil
	}
	return []conf.Mistake{{
		Place: conf.Place{File: plan.File, Key: "max_open_files"},
		What:  err.Error(),
		Hint:  "leave it out, or raise the limit where sallyport is started: LimitNOFILE= of a unit, ulimit -Hn, --ulimit nofile= of a container",
	}}
}
