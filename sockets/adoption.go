package sockets

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// RowsMax bounds the rows of cores that may live at the same time: as many workers as
// a configuration may have, in four generations.
const RowsMax = 4 * 256

// AdoptionBytesMax is the length of the longest message of an Adoption or a Keeping.
const AdoptionBytesMax = 50

// FirstTable is the table of certificates that a keeper is started with. Each plan that
// follows has the next number.
const FirstTable = 1

// An Adoption is the message that comes with one end of a link to a core which is about
// to start: from the main warden to the keeper's, and from that one to the keeper.
//
//	adopt 17 1
//	adopt 17 1 suspect
type Adoption struct {
	Row     int  // of the link; the last one that had it is of no use any more
	Table   int  // of certificates, by which the core knows them
	Suspect bool // a core has died since the last Adoption, perhaps in the hands of somebody
}

const (
	adoptionVerb    = "adopt "
	adoptionSuspect = " suspect"
)

// Append writes the message behind b.
func (a Adoption) Append(b []byte) []byte {
	b = strconv.AppendInt(append(b, adoptionVerb...), int64(a.Row), 10)
	b = strconv.AppendInt(append(b, ' '), int64(a.Table), 10)
	if a.Suspect {
		b = append(b, adoptionSuspect...)
	}
	return b
}

// IsAdoption reports whether a message may be one of an Adoption.
func IsAdoption(message []byte) bool { return bytes.HasPrefix(message, []byte(adoptionVerb)) }

// ParseAdoption reads what Append wrote, and nothing else: the row is below RowsMax.
func ParseAdoption(message []byte) (a Adoption, err error) {
	rest, _ := strings.CutPrefix(string(message), adoptionVerb)
	rest, a.Suspect = strings.CutSuffix(rest, adoptionSuspect)
	row, table, _ := strings.Cut(rest, " ")
	if a.Row, err = strconv.Atoi(row); err == nil {
		a.Table, err = strconv.Atoi(table)
	}
	if err != nil || a.Row < 0 || a.Row >= RowsMax || a.Table < FirstTable || !bytes.Equal(a.Append(nil), message) {
		return Adoption{}, fmt.Errorf("sockets: %q is no adoption", message[:min(len(message), AdoptionBytesMax)])
	}
	return a, nil
}

// A Keeping is the message that comes with a parcel of what the keeper is to keep besides:
// a table of certificates, for the cores of one plan. Without one it says of which table
// the files are to be read again, for another one, or that nobody will ask for a table any
// more. It takes the same way as an Adoption.
//
//	keep 2
//	keep 3 like 2
//	forget 1
type Keeping struct {
	Table  int
	Like   int // 0: there is a parcel, or Forget
	Forget bool
}

const (
	keepVerb   = "keep "
	keepLike   = " like "
	forgetVerb = "forget "
)

// Append writes the message behind b.
func (k Keeping) Append(b []byte) []byte {
	verb := keepVerb
	if k.Forget {
		verb = forgetVerb
	}
	b = strconv.AppendInt(append(b, verb...), int64(k.Table), 10)
	if k.Like != 0 {
		b = strconv.AppendInt(append(b, keepLike...), int64(k.Like), 10)
	}
	return b
}

// IsKeeping reports whether a message may be one of a Keeping.
func IsKeeping(message []byte) bool {
	return bytes.HasPrefix(message, []byte(keepVerb)) || bytes.HasPrefix(message, []byte(forgetVerb))
}

// ParseKeeping reads what Append wrote, and nothing else.
func ParseKeeping(message []byte) (k Keeping, err error) {
	rest, keeps := strings.CutPrefix(string(message), keepVerb)
	if !keeps {
		rest, k.Forget = strings.CutPrefix(rest, forgetVerb)
	}
	table, like, isLike := strings.Cut(rest, keepLike)
	k.Table, err = strconv.Atoi(table)
	if err == nil && isLike && !k.Forget {
		k.Like, err = strconv.Atoi(like)
	}
	if err != nil || k.Table < FirstTable || k.Like < 0 || !bytes.Equal(k.Append(nil), message) {
		return Keeping{}, fmt.Errorf("sockets: %q is no keeping", message[:min(len(message), AdoptionBytesMax)])
	}
	return k, nil
}
