package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// This file is what a planner does for a reload: it reads which plan is in force, compares
// the plan of the file with that, and says what is left to be done. The reload command may
// be root, and reads no more itself of what the service has sent than its short answer.

// A runningPlan is what is in force, as boot or the reload command wrote it: in sealed
// memory, which the main warden keeps for the next reload and does not read. That warden has no
// privilege: it is believed where a lie would only keep the service from what it may have. No path
// of it is opened or removed.
type runningPlan struct {
	Version string
	Plan    *conf.Plan
	Bound   []listening // in the order of the plan
	Keeper  bool        // there is one, even if no certificate is left

	number int
	ours   bool // see inquiry.Ours
}

// readRunning reads what the service has said of its plan.
func (q *inquiry) readRunning(gifts sockets.Gifts) (*runningPlan, error) {
	var said planAnswer
	if err := json.Unmarshal(q.Said, &said); err != nil {
		return nil, err
	}
	if said.Error != "" {
		return nil, fmt.Errorf("not reloaded: %s", plainCommand([]byte(said.Error)))
	}
	if _, err := gifts.FD("running"); err != nil {
		return nil, errors.New("its plan was not told: it is another version of sallyport, which takes a restart")
	}
	was := &runningPlan{number: said.Number, ours: q.Ours}
	if err := gifts.Decode("running", was); err != nil {
		return nil, fmt.Errorf("plan in force: %w", err)
	}
	if was.Version != version() || was.Plan == nil || len(was.Bound) != len(was.Plan.Listeners) {
		return nil, fmt.Errorf("version %q runs, and this is %s: that takes a restart", was.Version, version())
	}
	return was, nil
}

// follow makes of the answer for a start the one for a reload: without what there is already.
func (a *answer) follow(was *runningPlan) {
	if a.Mistakes = slices.Concat(was.lasting(a.Plan), was.lastingSlots(a.Plan, a.Main.Listeners), was.keepIssuance(a.Plan)); len(a.Mistakes) > 0 {
		a.Plan = nil
		return
	}
	a.Main.Follows, a.Keeper = was.number, was.Keeper
	a.Notices = slices.DeleteFunc(slices.Clone(a.Plan.Notices), func(notice conf.Mistake) bool {
		return slices.ContainsFunc(was.Plan.Notices, func(said conf.Mistake) bool { return said.Key == notice.Key && said.What == notice.What })
	})
	a.keepListeners(was.Bound)
	if sharesGround(was.Plan, a.Plan) {
		a.Main.Empty, a.Spools = []string{"part"}, 0
	}
	if had, has := was.Plan.Keeper.Authority, a.Plan.Keeper.Authority; had != nil && has != nil {
		where := has.Where
		*has = *had
		has.Where, a.Authority = where, false
	}
}

// keepListeners has those that are bound stay as they are. They are known by what the file calls
// them; several may have one name, of port 0: those of a kind find each other first.
func (a *answer) keepListeners(bound []listening) {
	closed, texts := slices.Clone(bound), []string(nil)
	for _, l := range bound {
		texts = append(texts, plainCommand([]byte(l.Text)))
	}
	for _, ofKind := range []bool{true, false} {
		for k := range a.Main.Listeners {
			wanted := &a.Main.Listeners[k]
			is := func(l listening) bool { return l.Text == wanted.Text && (l.Secure == wanted.Secure) == ofKind }
			if i := slices.IndexFunc(closed, is); wanted.Address == "" && i >= 0 {
				if !ofKind && wanted.Slots > 0 && closed[i].Slots == 0 {
					a.Notices = append(a.Notices, conf.Mistake{
						Place: a.Plan.Listeners[k].Where,
						What:  wanted.Text + " has no HTTP/3: it was http, and UDP sockets are bound with a listener",
						Hint:  "it needs a restart; or write h3 = false in [listen]",
					})
				}
				wanted.Address, wanted.Given, wanted.Slots = closed[i].Address, closed[i].Given, closed[i].Slots
				closed = slices.Delete(closed, i, i+1)
			}
		}
	}
	for _, l := range closed {
		a.Closed = append(a.Closed, "closed: "+plainCommand([]byte(l.text()))) // as it was told
	}
	if len(texts) > 0 {
		a.InUse = "if it is a part of what the service has (" + strings.Join(texts, ", ") + "), that needs a restart"
	}
}

// sharesGround reports whether plans agree about their apps, and the spool: then what
// is counted, and waits, is so for old and new cores together.
func sharesGround(was, plan *conf.Plan) bool {
	spool, wasSpool := plan.Core.Spool, was.Core.Spool
	spool.Where, wasSpool.Where = conf.Place{}, conf.Place{}
	return spool == wasSpool &&
		reflect.DeepEqual(board.PlanOf(&plan.Core), board.PlanOf(&was.Core)) &&
		same(appDuties(was.Core.Apps), appDuties(plan.Core.Apps))
}

// lasting are the changes that no reload can make.
func (r *runningPlan) lasting(plan *conf.Plan) (mistakes []conf.Mistake) {
	was := r.Plan
	refuse := func(key, what, hint string) {
		if hint == "" {
			hint = "it needs a restart; or write what it was"
		}
		mistakes = append(mistakes, conf.Mistake{Place: plan.WhereOf(key), What: what, Hint: hint})
	}
	if plan.File != was.File {
		refuse("", fmt.Sprintf("is another file than that of the service, %q", was.File), "sallyport reload -c with that one")
		return mistakes
	}
	if plan.Users.Switch != was.Users.Switch {
		refuse("user", "another user than this has started the service: its processes run as uid "+fmt.Sprint(was.Users.Core.UID),
			"reload as whoever has started it")
		return mistakes
	}
	own := !plan.Users.Switch && r.ours // in a namespace of its own that one may be uid 0
	for _, user := range []struct {
		key      string
		was, now conf.ID
	}{{"user", was.Users.Core, plan.Users.Core}, {"keeper_user", was.Users.Keeper, plan.Users.Keeper}} {
		if !own && (user.was.UID != user.now.UID || user.was.GID != user.now.GID) {
			refuse(user.key, fmt.Sprintf("is uid %d and gid %d, and the service runs as %d and %d", user.now.UID, user.now.GID, user.was.UID, user.was.GID), "")
		}
	}
	for _, value := range []struct{ key, was, now string }{
		{"sandbox", strconv.Quote(was.Sandbox), strconv.Quote(plan.Sandbox)},
		{"control", strconv.Quote(was.Control), strconv.Quote(plan.Control)},
		{"log.target", was.LogTarget.String(), plan.LogTarget.String()},
		{"pid_file", strconv.Quote(was.PIDFile), strconv.Quote(plan.PIDFile)},
		{"max_open_files", strconv.Itoa(was.OpenFiles), strconv.Itoa(plan.OpenFiles)},
	} {
		if value.now != value.was {
			refuse(value.key, fmt.Sprintf("is %s, and the service was started with %s", value.now, value.was), "")
		}
	}
	if plan.State != was.State && (was.Keeper.Authority != nil || plan.Keeper.Authority != nil || was.Registrar != nil) {
		refuse("state", fmt.Sprintf("is %q, and the service has %q", plan.State, was.State),
			fmt.Sprintf("it needs a restart; or write state = %q", was.State))
	}
	if !r.Keeper && len(plan.Keeper.Certificates) > 0 {
		where := plan.Keeper.Certificates[0].Where
		where.Key = "site.tls"
		mistakes = append(mistakes, conf.Mistake{
			Place: where,
			What:  "is the first certificate, and the service was started without a keeper",
			Hint:  "it needs a restart",
		})
	}
	if !same(was.Managed, plan.Managed) {
		refuse("app", "an app that sallyport starts has changed", "it needs a restart")
	}
	return mistakes
}

// lastingSlots are the changes of HTTP/3 that no reload can make of listeners that stay: UDP sockets
// are bound once beside each, in order.
func (r *runningPlan) lastingSlots(plan *conf.Plan, listeners []listening) []conf.Mistake {
	const hint = "it needs a restart; or write what it was"
	for _, wanted := range listeners {
		for _, has := range r.Bound {
			if has.Text != wanted.Text || !has.Secure || !wanted.Secure || has.Given {
				continue
			}
			// Of one that was http it is known: keepListeners has said so.
			if is, was := wanted.Slots > 0, has.Slots > 0; is != was && r.Plan.Core.H3 != plan.Core.H3 {
				what := fmt.Sprintf("is %t, and the service was started with %t", is, was)
				return []conf.Mistake{{Place: plan.WhereOf("listen.h3"), What: what, Hint: hint}}
			}
			if wanted.Slots > 0 && has.Slots > 0 && min(plan.Workers*board.Generations, sockets.SlotsMax) > has.Slots {
				what := fmt.Sprintf("is %d, and the service has UDP sockets for %d", plan.Workers, has.Slots/board.Generations)
				return []conf.Mistake{{Place: plan.WhereOf("workers"), What: what, Hint: hint}}
			}
		}
	}
	return nil
}

// keepIssuance has a new plan go on with the registrar that runs, if one does, and says what
// no reload can change of it.
func (r *runningPlan) keepIssuance(plan *conf.Plan) (mistakes []conf.Mistake) {
	was, now := r.Plan.Registrar, plan.Registrar
	refuse := func(where conf.Place, what string) {
		mistakes = append(mistakes, conf.Mistake{Place: where, What: what, Hint: "it needs a restart; or write what it was"})
	}
	if was == nil && now != nil {
		for _, c := range plan.Keeper.Certificates {
			if c.ACME {
				refuse(c.Where, "is the first certificate from a CA, and the service was started without a registrar")
				break
			}
		}
		return mistakes
	}
	if was == nil {
		return nil
	}
	if now != nil {
		for _, setting := range []struct{ key, was, now string }{
			{"tls.ca", was.CA, now.CA},
			{"tls.test_ca", was.TestCA, now.TestCA},
			{"tls.email", was.Email, now.Email},
			{"tls.profile", was.Profile, now.Profile},
			{"tls.ca_root", was.RootFile, now.RootFile},
			{"tls.eab", was.KeyID + " " + was.KeyFile, now.KeyID + " " + now.KeyFile},
		} {
			if setting.was != setting.now {
				refuse(plan.WhereOf(setting.key), fmt.Sprintf("is %q, and the registrar was started with %q", setting.now, setting.was))
			}
		}
		if user, other := r.Plan.Users.Registrar, plan.Users.Registrar; user.UID != other.UID || user.GID != other.GID {
			refuse(plan.WhereOf("registrar_user"), fmt.Sprintf("is uid %d and gid %d, and the service runs as %d and %d", other.UID, other.GID, user.UID, user.GID))
		}
		if was.HTTP && !now.HTTP || was.TLS && !now.TLS {
			refuse(plan.WhereOf("listen"), "leaves no listener for a challenge by which the registrar proves to the CA whose the names are")
		}
	}
	plan.Registrar, plan.Keeper.ACME, plan.Users.Registrar = was, r.Plan.Keeper.ACME, r.Plan.Users.Registrar
	return mistakes
}

// same reports whether two parts of plans are, one of which has been written and read.
func same(was, now any) bool {
	before, err := json.Marshal(was)
	after, nowErr := json.Marshal(now)
	return err == nil && nowErr == nil && string(before) == string(after)
}
