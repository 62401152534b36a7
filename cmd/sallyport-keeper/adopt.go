package main

import (
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"sallyport/sockets"
	"sallyport/tlsload/keeper"
)

// takeLinks gives k the links that were given, by the row and the table in their names.
func takeLinks(gifts sockets.Gifts, k *keeper.Keeper) {
	for _, gift := range gifts {
		digits, found := strings.CutPrefix(gift.Name, "link")
		digits, number, named := strings.Cut(digits, "-")
		table := sockets.FirstTable
		row, err := strconv.Atoi(digits)
		if err == nil && named {
			table, err = strconv.Atoi(number)
		}
		if !found || err != nil || row < 0 || row >= sockets.RowsMax {
			continue // it is called otherwise
		}
		k.Link(row, table, gift.FD)
	}
}

// adoptFrom has k take the links and tables that its warden sends, if that one does.
func adoptFrom(gifts sockets.Gifts, k *keeper.Keeper, log zerolog.Logger) error {
	fd, err := gifts.FD("adopt")
	if err != nil {
		return nil // a keeper of the tests, whose links are all there
	}
	return k.Adopt(fd, func(table sockets.Gifts, before *keeper.Store) (*keeper.Store, error) {
		return loadTable(table, table, before, log)
	})
}
