package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keeper"
)

// This file is how tables of certificates are found among gifts. Those of the first one
// are plan, cert0, key0, ...; those of another have its number before them:
// table3-plan, table3-cert0. Links are link17 and link17-3 then.

// tablesOf are the gifts of each table, by its number and without it.
func tablesOf(gifts sockets.Gifts) map[int]sockets.Gifts {
	tables := map[int]sockets.Gifts{}
	for _, gift := range gifts {
		if isOwn(gift.Name) {
			continue
		}
		number := sockets.FirstTable
		if rest, found := strings.CutPrefix(gift.Name, "table"); found {
			digits, name, _ := strings.Cut(rest, "-")
			if n, err := strconv.Atoi(digits); err == nil && n > number {
				number, gift.Name = n, name
			}
		}
		tables[number] = append(tables[number], gift)
	}
	return tables
}

// isOwn reports whether a gift is of no table, but of the whole process.
func isOwn(name string) bool {
	switch name {
	case "ready", "adopt", "secret", "root", "state", "registrar", "showing":
		return true
	}
	return strings.HasPrefix(name, "link")
}

// loadAll loads all tables that were given, by their numbers, the lowest first.
func loadAll(gifts sockets.Gifts, log zerolog.Logger) (map[int]*keeper.Store, error) {
	given := tablesOf(gifts)
	stores := map[int]*keeper.Store{}
	var before *keeper.Store
	for _, number := range slices.Sorted(maps.Keys(given)) {
		store, err := loadTable(given[number], gifts, before, log)
		if err != nil {
			return nil, err
		}
		stores[number], before = store, store
	}
	if before == nil {
		return nil, errors.New("keeper: is given no plan")
	}
	return stores, nil
}

// loadTable loads one, of its gifts and those of the internal CA among others. before is
// another one, nil for the first.
func loadTable(gifts, others sockets.Gifts, before *keeper.Store, log zerolog.Logger) (*keeper.Store, error) {
	plan, files, kept, err := readTable(gifts, others, before)
	if err != nil {
		return nil, err
	}
	if before == nil {
		return keeper.Load(plan, files, kept, log)
	}
	return keeper.LoadBeside(before, plan, files, kept, log)
}

// readTable finds what a table is made of; before is as above.
func readTable(gifts, others sockets.Gifts, before *keeper.Store) (plan conf.Keeper, files []keeper.Files, kept keeper.AuthorityFiles, err error) {
	if plan, err = readPlan(gifts); err != nil {
		return plan, nil, kept, err
	}
	files, noFiles := filesOf(gifts, plan.Certificates, nil)
	if before != nil && before.HasAuthority() {
		return plan, files, kept, noFiles
	}
	kept, noAuthority := authorityOf(others, plan.Authority)
	return plan, files, kept, errors.Join(noFiles, noAuthority)
}

// issuanceOf is what the tables say of the CA, which is the same in all that say it; nil
// without one.
func issuanceOf(gifts sockets.Gifts) (*conf.ACME, error) {
	for _, table := range tablesOf(gifts) {
		plan, err := readPlan(table)
		if err != nil || plan.ACME != nil {
			return plan.ACME, err
		}
	}
	return nil, nil
}

func readPlan(gifts sockets.Gifts) (plan conf.Keeper, err error) {
	err = gifts.Decode("plan", &plan)
	return plan, err
}

// filesOf finds the files of every certificate that has any; of those alone that are in only,
// unless that is nil.
func filesOf(gifts sockets.Gifts, certificates []conf.Certificate, only []int) ([]keeper.Files, error) {
	byName := make(map[string]int, len(gifts))
	for _, gift := range gifts {
		byName[gift.Name] = gift.FD
	}
	files := make([]keeper.Files, len(certificates))
	for i := range files {
		if only != nil && !slices.Contains(only, i) {
			continue
		}
		for _, file := range certificates[i].Files() {
			fd, given := byName[file.Kind+strconv.Itoa(i)]
			switch {
			case !given:
				return nil, fmt.Errorf("keeper: is not given %s of certificate %d", file.Key, i)
			case file.Secret:
				files[i].Key = fd
			default:
				files[i].Cert = fd
			}
		}
	}
	return files, nil
}

// readSome finds what some certificates of a table are made of: handles is their numbers, with
// commas between.
func readSome(gifts sockets.Gifts, handles string) (some conf.Keeper, files []keeper.Files, err error) {
	plan, err := readPlan(gifts)
	if err != nil {
		return some, nil, err
	}
	var only []int
	for digits := range strings.SplitSeq(handles, ",") {
		handle, err := strconv.Atoi(digits)
		if err != nil || handle < 0 || handle >= len(plan.Certificates) {
			return some, nil, fmt.Errorf("keeper: %q is no certificate of %d", digits, len(plan.Certificates))
		}
		only = append(only, handle)
	}
	all, err := filesOf(gifts, plan.Certificates, only)
	if err != nil {
		return some, nil, err
	}
	for _, handle := range only {
		some.Certificates, files = append(some.Certificates, plan.Certificates[handle]), append(files, all[handle])
	}
	return some, files, nil
}

// authorityOf finds the files of the internal CA, if there is one.
func authorityOf(gifts sockets.Gifts, plan *conf.Authority) (files keeper.AuthorityFiles, err error) {
	if plan == nil {
		return files, nil
	}
	var noSecret, noRoot error
	files.Secret, noSecret = gifts.FD("secret")
	files.Root, noRoot = gifts.FD("root")
	return files, errors.Join(noSecret, noRoot)
}
