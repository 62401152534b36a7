package registrar

import (
	"errors"
	"strings"

	"github.com/mholt/acmez/v3/acme"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// failureOf says what the operator has to know of an error: what the CA said, about what.
func failureOf(err error, plan conf.Registrar) keywire.NotIssued {
	text := strings.ToValidUTF8(err.Error(), "?")
	failure := keywire.NotIssued{CA: []byte(plan.CA), Text: []byte(text)}
	if plan.TestCA != "" && strings.Contains(text, plan.TestCA) {
		failure.CA = []byte(plan.TestCA)
	}
	var problem acme.Problem
	if !errors.As(err, &problem) {
		return failure
	}
	failure.Status, failure.Problem = uint32(problem.Status), []byte(problem.Type)
	failure.Text = []byte(problem.Detail)
	for _, sub := range problem.Subproblems {
		failure.Text = append(append(failure.Text, "; "...), sub.Detail...)
	}
	authorization, of := problem.Resource.(acme.Authorization)
	if !of {
		return failure
	}
	failure.Name = []byte(authorization.Identifier.Value)
	for _, c := range authorization.Challenges {
		if c.Error != nil || c.Status == acme.StatusInvalid {
			failure.Challenge = []byte(c.Type)
		}
	}
	return failure
}
