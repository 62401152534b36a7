package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// This file is the certificates of status. The keeper writes how it stands with each name that
// has one from a CA beside the certificate, where whoever may read its folder, root or
// the user that started all, reads it; of the others, into memory that the main warden
// hands on: showing.go. A warden reads nothing of its wards.

// A certificateStatus is as the keeper writes it: package keeper, standing.
type certificateStatus struct {
	Host     string   `json:"host"`
	Source   string   `json:"source"`
	File     string   `json:"file,omitempty"`
	Names    []string `json:"names,omitempty"`
	CA       string   `json:"ca"`
	Issuer   string   `json:"issuer"`
	Serial   string   `json:"serial"`
	Disk     string   `json:"disk_serial,omitempty"` // found by who asks
	NotAfter string   `json:"not_after"`
	Next     string   `json:"next,omitempty"`
	Attempts int      `json:"attempts"`
	Error    string   `json:"error"`
}

const (
	standingPrefix   = "status," // as sockets.FileName has it
	standingBytesMax = 16 << 10
	standingsMax     = 100_000
)

// findCertificates reads what the keeper has written. What cannot be read is left out:
// somebody else's folder is none of the caller's business. path is that of the configuration.
func (s *status) findCertificates(path string) {
	s.Certificates = s.shown
	s.findFiles(path)
	defer s.sortCertificates()
	if s.Folder == "" {
		return
	}
	folder, err := os.Open(s.Folder)
	if err != nil {
		return
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(4 * standingsMax) // those that were read, with an error
	for _, name := range names {
		if !strings.HasPrefix(name, standingPrefix) || len(s.Certificates) >= standingsMax {
			continue
		}
		if c, err := readStanding(int(folder.Fd()), name); err == nil {
			c.Disk = c.Serial // which is read from there
			s.Certificates = append(s.Certificates, c)
		}
	}
}

func (s *status) sortCertificates() {
	slices.SortStableFunc(s.Certificates, func(a, b certificateStatus) int { return strings.Compare(a.Host, b.Host) })
}

// readStanding reads one file, which may be anything: the folder is the keeper's, and root asks.
func readStanding(folder int, name string) (c certificateStatus, err error) {
	fd, err := unix.Openat(folder, filepath.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return c, err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return c, errors.Join(err, unix.EINVAL)
	}
	text := make([]byte, standingBytesMax)
	n, err := unix.Read(fd, text)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(text[:n], &c)
}

// printCertificates writes them for people.
func (s *status) printCertificates(to io.Writer) {
	if len(s.Certificates) == 0 {
		return
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nCERTIFICATE\tSOURCE\tISSUER\tSERIAL\tON DISK\tNOT AFTER\tNEXT\tERROR")
	for _, c := range s.Certificates {
		notAfter := c.NotAfter
		if c.Serial == "" {
			notAfter = "-"
		}
		disk := c.Disk
		switch disk {
		case "":
			disk = "-"
		case c.Serial:
			disk = "same"
		}
		next := c.Next
		if next == "" { // whoever writes the files knows
			next = "-"
		}
		columns := []string{c.Host, c.Source, c.Issuer, c.Serial, disk, notAfter, next, c.Error}
		for i := range columns {
			columns[i] = printable(columns[i])
		}
		fmt.Fprintln(w, strings.Join(columns, "\t"))
	}
	_ = w.Flush() // as in print
}

// printable is a text without what a terminal would obey: a CA has had its say in it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
