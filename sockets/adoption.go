package sockets

import (
	"bytes"
	"fmt"
	"strconv"
)

// RowsMax bounds the rows of cores that may live at the same time: as many workers as
// a configuration may have, in four generations.
const RowsMax = 4 * 256

// AdoptionBytesMax is the length of the longest message of an Adoption.
const AdoptionBytesMax = 32

// An Adoption is the message that comes with one end of a link to a core which is about
// to start: from the main warden to the keeper's, and from that one to the keeper.
//
//	adopt 17
//	adopt 17 suspect
type Adoption struct {
	Row     int  // of the core; the link of the last one that had it is of no use any more
	Suspect bool // a core has died since the last Adoption, perhaps in the hands of somebody
}

const (
	adoptionVerb    = "adopt "
	adoptionSuspect = " suspect"
)

// Append writes the message behind b.
func (a Adoption) Append(b []byte) []byte {
	b = strconv.AppendInt(append(b, adoptionVerb...), int64(a.Row), 10)
	if a.Suspect {
		b = append(b, adoptionSuspect...)
	}
	return b
}

// IsAdoption reports whether a message may be one of an Adoption.
func IsAdoption(message []byte) bool { return bytes.HasPrefix(message, []byte(adoptionVerb)) }

// ParseAdoption reads what Append wrote, and nothing else: the row is below RowsMax.
func ParseAdoption(message []byte) (a Adoption, err error) {
	rest, _ := bytes.CutPrefix(message, []byte(adoptionVerb))
	rest, a.Suspect = bytes.CutSuffix(rest, []byte(adoptionSuspect))
	a.Row, err = strconv.Atoi(string(rest))
	if err != nil || a.Row < 0 || a.Row >= RowsMax || !bytes.Equal(a.Append(nil), message) {
		return Adoption{}, fmt.Errorf("sockets: %q is no adoption", message[:min(len(message), AdoptionBytesMax)])
	}
	return a, nil
}
