package main

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// A fileError is a file of the keeper that cannot be used, and the way to mend it.
type fileError struct {
	path string
	err  error
	hint string // "" when there is nothing to add
}

func (e *fileError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }
func (e *fileError) Hint() string  { return e.hint }

// A keeperFile is a file that boot opens for the keeper.
type keeperFile struct {
	Gift  string // "cert0", "key0"
	Path  string
	Key   bool // a private key, else the chain of a certificate
	Where conf.Place
}

// keeperFiles lists the files of all certificates that have some.
func keeperFiles(plan *conf.Plan) []keeperFile {
	var files []keeperFile
	for i, certificate := range plan.Keeper.Certificates {
		for _, file := range certificate.Files() {
			where := certificate.Where
			where.Key = file.Key
			files = append(files, keeperFile{Gift: file.Kind + strconv.Itoa(i), Path: file.Path, Key: file.Secret, Where: where})
		}
	}
	return files
}

// open opens the file, without reading it. Links are followed, since
// /etc/letsencrypt/live has nothing else; the rights that count are those of the
// file. A key may be read by its group if that is the keeper's or root's.
func (f keeperFile) open(keeperGroup int) (int, error) {
	fd, stat, err := openRegular(f.Path)
	if err != nil {
		return fd, err
	}
	if !f.Key {
		if stat.Mode&0o002 == 0 {
			return fd, nil
		}
		unix.Close(fd)
		return -1, &fileError{f.Path, fmt.Errorf("may be written by everybody (mode %04o)", stat.Mode&0o7777), "chmod o-w " + f.Path}
	}
	if what := looseKey(stat.Mode, int(stat.Gid), keeperGroup); what != "" {
		unix.Close(fd)
		return -1, &fileError{f.Path, errors.New(what), "chmod u=rw,g=,o= " + f.Path}
	}
	return fd, nil
}

// Bounds of what one process can be given: an argument, which has the names of all
// its gifts (MAX_ARG_STRLEN of execve(2), with its closing zero), and descriptors
// beside the gifts.
const (
	argumentMax      = 128 << 10
	descriptorsSpare = 64
)

// checkDescriptors refuses more certificates than the keeper can be given. A gift
// is there twice while a stage puts it in its place.
func checkDescriptors(plan *conf.Plan) []conf.Mistake {
	files, certificates := keeperFiles(plan), len(plan.Keeper.Certificates)
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return []conf.Mistake{{What: fmt.Sprintf("limit of open files: %v", err)}}
	}
	if plan.OpenFiles > 0 { // which boot will set, or fail
		limit.Max = uint64(plan.OpenFiles)
	}
	place := conf.Place{File: plan.File, Key: "site.tls"}
	if need := uint64(2*(len(files)+plan.Workers) + descriptorsSpare); need > limit.Max {
		return []conf.Mistake{{
			Place: place,
			What:  fmt.Sprintf("%s take %d open files, and the limit is %d", plural(certificates, "certificate"), need, limit.Max),
			Hint:  fmt.Sprintf("LimitNOFILE=%d in the unit, ulimit -Hn, or docker run --ulimit nofile=%d", need, need),
		}}
	}
	names := 0
	for _, file := range files {
		names += len(file.Gift) + len(",")
	}
	if names += plan.Workers*len("link255,") + descriptorsSpare; names >= argumentMax {
		return []conf.Mistake{{
			Place: place,
			What:  fmt.Sprintf("%s are more than one keeper can be given", plural(certificates, "certificate")),
			Hint:  "write one certificate for several sites",
		}}
	}
	return nil
}

// looseKey says who may do too much with a key of these rights; "" if nobody may.
func looseKey(mode uint32, group, keeperGroup int) string {
	switch {
	case mode&0o007 != 0:
		return fmt.Sprintf("is a key and open to everybody (mode %04o)", mode&0o7777)
	case mode&0o030 != 0:
		return fmt.Sprintf("is a key and may be written by its group (mode %04o)", mode&0o7777)
	case mode&0o040 != 0 && group != keeperGroup && group != 0:
		return fmt.Sprintf("is a key and may be read by group %d, which is neither the keeper's (%d) nor root's", group, keeperGroup)
	default:
		return ""
	}
}

// openRegular opens a regular file for reading. Anything else could keep the
// keeper waiting, or read differently each time.
func openRegular(path string) (int, unix.Stat_t, error) {
	var stat unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, stat, &fileError{path: path, err: err}
	}
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return -1, stat, &fileError{path: path, err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, stat, &fileError{path: path, err: errors.New("is no regular file")}
	}
	return fd, stat, nil
}
