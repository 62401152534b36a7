package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// This file is what the keeper shows of certificates that have no file in its folder, and
// what is on the disk instead of those that come from files.

// giftShowing is the memory that it writes into, and showingBytes its size, of which what is used
// takes room; showingHead is as in package keeper.
const (
	giftShowing  = "showing"
	showingBytes = 8 << 20
	showingHead  = 16
)

// How often that memory is read while the keeper writes to it. It takes some milliseconds.
const (
	showingTries = 50
	showingPause = 2 * time.Millisecond
)

// readShowing reads it, whatever may be there: it is the keeper's, and root asks.
func readShowing(fd int) (all []certificateStatus) {
	for range showingTries {
		before, text := readShown(fd)
		if after, _ := readShownHead(fd); before == after && before%2 == 0 {
			if json.Unmarshal(text, &all) == nil {
				return all
			}
			return nil
		}
		time.Sleep(showingPause)
	}
	return nil
}

func readShownHead(fd int) (number, length uint64) {
	var head [showingHead]byte
	if n, err := unix.Pread(fd, head[:], 0); err != nil || n < len(head) {
		return 0, 0
	}
	return binary.NativeEndian.Uint64(head[:]), binary.NativeEndian.Uint64(head[8:])
}

func readShown(fd int) (number uint64, text []byte) {
	number, length := readShownHead(fd)
	text = make([]byte, min(length, showingBytes-showingHead))
	n, err := unix.Pread(fd, text, showingHead)
	if err != nil {
		return number, nil
	}
	return number, text[:n]
}

// findFiles adds the serial numbers of what is in the files of the configuration at path,
// and of no other: the keeper names files too, but root opens none that another process has named.
func (s *status) findFiles(path string) {
	plan, _ := load(path)
	if plan == nil {
		return
	}
	for _, c := range plan.Keeper.Certificates {
		for _, f := range c.Files() {
			if !f.Secret {
				s.findFile(f)
			}
		}
	}
}

func (s *status) findFile(f conf.CertificateFile) {
	for i := range s.Certificates {
		if c := &s.Certificates[i]; c.File == f.Path && c.Disk == "" {
			c.Disk = serialIn(f.Path)
		}
	}
}

// certificateMax bounds what is read of a file, as the keeper does.
const certificateMax = 1 << 20

// serialIn is the serial number of the first certificate in a file, "" if there is none to be read.
func serialIn(path string) string {
	fd, _, err := openRegular(path)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	text := make([]byte, certificateMax)
	n, err := unix.Pread(fd, text, 0)
	if err != nil {
		return ""
	}
	return serialOf(text[:n])
}

// serialOf is that of the first certificate in PEM, hexadecimal; "" where there is none. The root
// binary has no X.509, and this takes no more than the first fields of it:
//
//	Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { [0] version OPTIONAL, serialNumber INTEGER, ...
func serialOf(text []byte) string {
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	_, rest, found := bytes.Cut(text, []byte(begin))
	body, _, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return ""
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
	if err != nil {
		return ""
	}
	const sequence, version, integer = 0x30, 0xa0, 0x02
	inside, _, _ := element(der, sequence)
	inside, _, _ = element(inside, sequence)
	if _, after, is := element(inside, version); is {
		inside = after
	}
	serial, _, is := element(inside, integer)
	if !is {
		return ""
	}
	if number := strings.TrimLeft(hex.EncodeToString(serial), "0"); number != "" {
		return number
	}
	return "0"
}

// element is what is in the first element of b in DER, and what is behind it, if it has a tag.
func element(b []byte, tag byte) (inside, after []byte, is bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	length, b := int(b[1]), b[2:]
	if digits := length & 0x7f; length >= 0x80 {
		if digits == 0 || digits > 3 || digits > len(b) {
			return nil, nil, false
		}
		length = 0
		for _, digit := range b[:digits] {
			length = length<<8 | int(digit)
		}
		b = b[digits:]
	}
	if length > len(b) {
		return nil, nil, false
	}
	return b[:length], b[length:], true
}
