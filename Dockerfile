# Sallyport's own programs, and nothing else: no shell, no libc, no root.
#
#   docker build -t sallyport .
#   docker run --read-only --cap-drop=all --security-opt no-new-privileges \
#       -p 80:8080 -p 443:8443 -p 443:8443/udp -v ./etc:/etc/sallyport:ro -v ./run:/run/app sallyport
#
# Etc has a sallyport.toml that listens on ports from 1024 up; run is where the
# app makes its socket. conf/examples has one for compose, podman's systemd
# units and Kubernetes. To build without network, `go mod vendor` first, and
# remove the folder vendor afterwards.

FROM docker.io/library/golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/bin/ ./cmd/... && mkdir -p -m 0700 /out/own/sallyport
# Whoever runs it with --user=65532 means this user, and not the group of root, which is
# that of an id without an account.
RUN mkdir /out/etc && echo 'sallyport:x:65532:65532::/:/sbin/nologin' >/out/etc/passwd && echo 'sallyport:x:65532:' >/out/etc/group

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/etc/ /etc/
COPY --from=build /out/bin/ /bin/
# The folders that are written to: the control socket; the internal CA and what
# else has to survive. As volumes they are writable where the rest is not.
COPY --from=build --chown=65532:65532 /out/own/ /run/
COPY --from=build --chown=65532:65532 /out/own/ /var/lib/
ENV RUNTIME_DIRECTORY=/run/sallyport STATE_DIRECTORY=/var/lib/sallyport
VOLUME ["/run/sallyport", "/var/lib/sallyport"]
USER 65532:65532
EXPOSE 8080 8443 8443/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/bin/sallyport", "status", "--ready", "-c", "/etc/sallyport/sallyport.toml"]
ENTRYPOINT ["/bin/sallyport"]
CMD ["run", "-c", "/etc/sallyport/sallyport.toml"]
