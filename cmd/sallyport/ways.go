package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// checkWays goes to every app's socket as the core will, and says what is in the
// way; file is the configuration as it was named. An absent app never stops run,
// so these are failures of check alone.
func checkWays(plan *conf.Plan, file string) (blocked, unknown []conf.Mistake) {
	for i := range plan.Core.Apps {
		app := &plan.Core.Apps[i]
		for _, socket := range app.Sockets {
			var obstacle *sockets.Obstacle
			err := jail.As(plan.Users.Core, func() { obstacle = sockets.Walk(socket) })
			if obstacle != nil && obstacle.Errno == unix.EACCES && plan.Users.Switch && opensTo(socket, plan.Users.Core) {
				obstacle = nil // boot opens the folder for the dialer
			}
			if obstacle != nil && obstacle.Errno == unix.ENOENT {
				obstacle = sockets.Walk(socket) // root sees what is there instead
			}
			place := app.Where
			place.File = file // the core knows only its name
			switch {
			case err != nil:
				unknown = append(unknown, conf.Mistake{
					Place: place,
					What:  fmt.Sprintf("the way to unix:%s was not checked: %v", socket, err),
					Hint:  "run check as root",
				})
			case obstacle != nil:
				blocked = append(blocked, conf.Mistake{Place: place, What: obstacle.Error(), Hint: hintOf(obstacle)})
			}
		}
	}
	return blocked, unknown
}

// hintOf is the fix of an obstacle, and how it lasts.
func hintOf(o *sockets.Obstacle) string {
	if o.Keep == "" {
		return o.Fix
	}
	return o.Fix + "\nhint: so that it lasts: " + o.Keep
}
