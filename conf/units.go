package conf

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// durationMax bounds every duration, so that sums of a few do not overflow.
const durationMax = 366 * 24 * time.Hour

// parseDuration reads Go's durations, in whole milliseconds: "1m30s", "250ms"; "0" and "0s" are off.
func parseDuration(written string) (time.Duration, fault) {
	d, err := time.ParseDuration(written)
	switch {
	case err != nil:
		return 0, durationFault(written)
	case d < 0:
		return 0, fault{"is negative", `write "0s" to switch it off`}
	case d%time.Millisecond != 0:
		return 0, fault{"is finer than a millisecond", `the units are ms, s, m and h`}
	case d > durationMax:
		return 0, fault{"is longer than a year", `write "0s" to switch the limit off`}
	}
	return d, fault{}
}

// durationFault explains what is no duration, and corrects the units of other programs.
func durationFault(written string) fault {
	what := "is not a duration: " + strconv.Quote(written)
	amount, unit := splitUnit(written)
	if amount == "" {
		return fault{what, `write a number and ms, s, m or h, as "30s"`}
	}
	switch strings.ToLower(unit) {
	case "":
		return fault{"has no unit", `write "` + amount + `s", if seconds are meant`}
	case "s", "sec", "secs", "second", "seconds":
		return fault{what, `write "` + amount + `s"`}
	case "m", "min", "mins", "minute", "minutes":
		return fault{what, `write "` + amount + `m"`}
	case "h", "hr", "hour", "hours":
		return fault{what, `write "` + amount + `h"`}
	case "d", "day", "days":
		return fault{what, "write hours: 1 day is \"24h\""}
	}
	return fault{what, `the units are ms, s, m and h`}
}

// parseSize reads bytes: a whole number, or one with KiB, MiB or GiB.
func parseSize(written string) (int64, fault) {
	amount, unit := splitUnit(written)
	shift, known := map[string]int{"": 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]
	n, err := strconv.ParseInt(amount, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fault{"is too large", ""}
	case !known || err != nil || amount+unit != written:
		return 0, sizeFault(written)
	case n > math.MaxInt64>>shift:
		return 0, fault{"is too large", ""}
	}
	return n << shift, fault{}
}

// sizeFault explains what is no size, and corrects the units of other programs.
func sizeFault(written string) fault {
	what := "is not a size: " + strconv.Quote(written)
	amount, unit := splitUnit(written)
	if amount == "" || strings.ContainsAny(amount, ".,") {
		return fault{what, `write a whole number of bytes, or one with KiB, MiB or GiB, as "64MiB"`}
	}
	unit = strings.ToUpper(unit)
	if unit == "B" || unit == "" {
		return fault{what, "write " + amount}
	}
	if strings.ContainsAny(unit[:1], "KMG") && (len(unit) == 1 || unit[1:] == "B" || unit[1:] == "IB") {
		return fault{what, `write "` + amount + unit[:1] + `iB"`}
	}
	return fault{what, "the units are KiB, MiB and GiB"}
}

// checkShare looks at "50%" or a size.
func checkShare(written string) fault {
	percent, isPercent := strings.CutSuffix(written, "%")
	if !isPercent {
		_, f := parseSize(written)
		return f
	}
	if n, err := strconv.Atoi(percent); err != nil || n < 1 || n > 100 {
		return fault{"is not a share: " + strconv.Quote(written), `write "1%" to "100%", or a size`}
	}
	return fault{}
}

// parseNumber reads a whole number as TOML writes it: 1_000, 0x10, +5.
func parseNumber(written string) (int64, fault) {
	n, err := strconv.ParseInt(written, 0, 64)
	if err != nil {
		return 0, fault{"is not a whole number that fits: " + written, ""}
	}
	return n, fault{}
}

// splitUnit cuts a text into the number that it begins with and the rest.
func splitUnit(written string) (amount, unit string) {
	written = strings.TrimSpace(written)
	end := strings.IndexFunc(written, func(r rune) bool { return !strings.ContainsRune("0123456789.,_", r) })
	if end < 0 {
		return written, ""
	}
	return written[:end], strings.TrimSpace(written[end:])
}
