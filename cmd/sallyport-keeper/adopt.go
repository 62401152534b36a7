package main

import (
	"strconv"
	"strings"

	"sallyport/sockets"
	"sallyport/tlsload/keeper"
)

// linksOf finds the links, by the row in their names; -1 where a row has none.
func linksOf(gifts sockets.Gifts) (links []int) {
	for _, gift := range gifts {
		digits, found := strings.CutPrefix(gift.Name, "link")
		row, err := strconv.Atoi(digits)
		if !found || err != nil || row < 0 || row >= sockets.RowsMax {
			continue // it is called otherwise
		}
		for len(links) <= row {
			links = append(links, -1)
		}
		links[row] = gift.FD
	}
	return links
}

// adoptFrom has k take the links that its warden sends, if that one does.
func adoptFrom(gifts sockets.Gifts, k *keeper.Keeper) error {
	fd, err := gifts.FD("adopt")
	if err != nil {
		return nil // a keeper of the tests, whose links are all there
	}
	return k.Adopt(fd)
}
