# Read by gunicorn where it is started. A worker that is booting does not hear TERM
# (gunicorn's own handlers come late): tests wait until each says that it is ready.


def post_worker_init(worker):
    worker.log.info("Worker ready (pid: %s)", worker.pid)
