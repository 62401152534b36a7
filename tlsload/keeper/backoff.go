package keeper

import (
	"math/rand/v2"
	"strings"
	"time"
)

// This file is how long to wait after a refusal, and what an operator can do about it.

const (
	// lostPause is after an order that was lost with the registrar: nobody has refused it.
	lostPause = 500 * time.Millisecond
	// Where the CA cannot be reached nobody counts the tries.
	unreachedFirst, unreachedMost = 5 * time.Second, 10 * time.Minute
	// A CA counts failed validations: Let's Encrypt takes five of a name in an hour, so
	// that the sixth comes after it.
	refusedFirst, refusedMost = time.Minute, 6 * time.Hour
	// limitedPause is where the CA says that there were too many, and not until when.
	limitedPause = time.Hour
	// retryMost bounds what a CA may ask for.
	retryMost = 8 * 24 * time.Hour
)

// problemLimited is what a CA says to one that has asked for too much. RFC 8555, section 6.7.
const problemLimited = "urn:ietf:params:acme:error:rateLimited"

// backOff is how long to wait after as many attempts have failed, the last one by r.
func backOff(attempts int, r *refusal, now time.Time) time.Duration {
	switch {
	case r != nil && r.problem == problemLimited:
		if until, found := retryAfter(r.text); found && until.After(now) {
			return min(until.Sub(now), retryMost) + rand.N(time.Minute)
		}
		return jitter(limitedPause)
	case r == nil || r.status == 0:
		return jitter(doubled(unreachedFirst, attempts, unreachedMost))
	default:
		return jitter(doubled(refusedFirst, attempts, refusedMost))
	}
}

// doubled is first, doubled with every attempt but the first, and most at most.
func doubled(first time.Duration, attempts int, most time.Duration) time.Duration {
	for range attempts - 1 {
		if first *= 2; first >= most {
			return most
		}
	}
	return first
}

// jitter is a time near d, so that those who failed together do not come back so.
func jitter(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5+1) }

// retryAfter finds the time in what Let's Encrypt says of its limits, "retry after
// 2026-11-25 17:00:00 UTC": the library does not tell the field of the answer.
func retryAfter(text string) (time.Time, bool) {
	_, rest, found := strings.Cut(text, "retry after ")
	const form = "2006-01-02 15:04:05 MST"
	if !found || len(rest) < len(form) {
		return time.Time{}, false
	}
	at, err := time.Parse(form, rest[:len(form)])
	return at, err == nil
}

// hintOf is what an operator can do about a refusal; "" where nobody knows.
func hintOf(r *refusal) string {
	if r == nil {
		return ""
	}
	kind := r.problem[strings.LastIndexByte(r.problem, ':')+1:]
	switch {
	case kind == "rateLimited":
		return "nothing but to wait; sites with certificates go on"
	case kind == "caa":
		return "the CAA record of the domain does not allow this CA"
	case kind == "dns":
		return "the name has to lead to this machine: look at its A and AAAA records"
	case (kind == "connection" || kind == "unauthorized" || kind == "tls") && r.challenge == "http-01":
		return "port 80 of the name, from outside, has to lead here: look at its A and AAAA records, the firewall, and whatever is in front"
	case (kind == "connection" || kind == "unauthorized" || kind == "tls") && r.challenge == "tls-alpn-01":
		return "port 443 of the name, from outside, has to lead here, and nothing in front may end TLS"
	case kind == "rejectedIdentifier":
		return "this CA issues nothing for the name: write tls = \"internal\" for a name of your own network"
	case kind == "externalAccountRequired":
		return "the CA wants an account made elsewhere: write eab = { id = \"...\", key = \"file\" } below [tls]"
	case kind == "invalidContact" || kind == "unsupportedContact":
		return "mend email below [tls], or leave it out"
	case r.status == 0 && strings.Contains(r.text, "certificate signed by unknown authority"):
		return "for a CA of your own, write ca_root = \"its-root.pem\" below [tls]"
	case r.status == 0 && r.problem == "":
		return "the CA could not be asked: look at the network, DNS and firewall of this machine"
	}
	return ""
}
