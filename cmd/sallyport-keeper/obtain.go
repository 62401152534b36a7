package main

import (
	"context"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keeper"
)

// obtain has k obtain certificates from a CA, if there is one, and
// returns the folder in which it goes on to keep them.
func obtain(ctx context.Context, gifts sockets.Gifts, plan *conf.ACME, k *keeper.Keeper, log zerolog.Logger) (kept []sockets.Gift, err error) {
	if plan == nil {
		return nil, nil
	}
	with := keeper.Issuance{Plan: *plan}
	if with.Registrar, err = gifts.FD("registrar"); err != nil {
		return nil, err
	}
	if plan.Folder != "" {
		fd, err := gifts.FD("state")
		if err != nil {
			return nil, err
		}
		// Somebody may have removed it since boot. That is no reason for the other sites to end.
		if with.Folder, err = sockets.OpenFolder(fd, plan.Folder); err != nil {
			log.Error().Err(err).Str("hint", "certificates are in memory until sallyport is started again").Msg("state not read")
		}
		kept = []sockets.Gift{{Name: "state", FD: fd}}
	}
	return kept, k.Obtain(ctx, with)
}
