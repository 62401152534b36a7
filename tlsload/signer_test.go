package tlsload

import (
	"crypto"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// keyOf is what crypto/tls takes for the key of the first certificate.
func keyOf(k *Keyring) crypto.Signer {
	certificate, _ := k.certificates[0].Load().use()
	key, _ := certificate.PrivateKey.(crypto.Signer)
	return key
}

// A puppet is a keeper's end of a link that does what a test says. The Keyring
// has its certificate already.
func puppet(t *testing.T, limits limits) (k *Keyring, key crypto.Signer, link int) {
	t.Helper()
	s := newSafe(t, "a.test")
	core, link := linked(t)
	stop := s.serve(t, link)
	k = opened(t, core, 1, limits)
	stop()
	return k, keyOf(k), link
}

// asked waits for a Sign at the keeper's end.
func asked(t *testing.T, link int) keywire.Sign {
	t.Helper()
	packet := make([]byte, keywire.RequestBytesMax)
	for {
		polled := []unix.PollFd{{Fd: int32(link), Events: unix.POLLIN}}
		if n, err := unix.Poll(polled, 10_000); n == 0 && err == nil {
			t.Fatal("nothing was asked")
		}
		n, err := keywire.Receive(link, packet)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		m, malformed := keywire.DecodeSign(packet[:n])
		if err != nil || malformed != nil {
			t.Fatal(err, malformed)
		}
		return m
	}
}

type signed struct {
	signature []byte
	err       error
}

func sign(key crypto.Signer) <-chan signed {
	result := make(chan signed, 1)
	go func() {
		signature, err := crypto.SignMessage(key, rand.Reader, []byte("message"), crypto.SHA256)
		result <- signed{signature, err}
	}()
	return result
}

func TestSignerSignsNoDigest(t *testing.T) {
	_, key, _ := puppet(t, quick)
	if _, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v, want ErrDigest", err)
	}
	for _, message := range [][]byte{nil, make([]byte, keywire.MessageBytesMax+1)} {
		if _, err := crypto.SignMessage(key, rand.Reader, message, crypto.SHA256); err == nil {
			t.Errorf("a message of %d bytes is asked for", len(message))
		}
	}
	if _, err := crypto.SignMessage(key, rand.Reader, []byte("message"), crypto.SHA1); err == nil {
		t.Error("SHA-1 is asked for")
	}
}

func TestStaleRepliesAreDropped(t *testing.T) {
	k, key, link := puppet(t, quick)
	result := sign(key)
	request := asked(t, link)
	if request.Epoch != k.epoch || request.Scheme != keywire.ECDSAWithSHA256 || string(request.Message) != "message" {
		t.Errorf("got %+v", request)
	}
	wrong, right := []byte("wrong"), []byte("right")
	for _, m := range []keywire.Signed{
		{Epoch: request.Epoch + 1, ID: request.ID, Signature: wrong},
		{Epoch: request.Epoch, ID: request.ID + slotsMax, Signature: wrong},
		{Epoch: request.Epoch, ID: request.ID + 1, Signature: wrong},
		{Epoch: request.Epoch, ID: 1<<64 - 1, Signature: wrong},
		{Epoch: request.Epoch, ID: request.ID, Signature: right},
		{Epoch: request.Epoch, ID: request.ID, Signature: wrong}, // the answer to a resend
	} {
		if err := keywire.Send(link, m.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-result; got.err != nil || string(got.signature) != "right" {
		t.Errorf("got %q, %v", got.signature, got.err)
	}
}

func TestRefusalFailsTheHandshake(t *testing.T) {
	_, key, link := puppet(t, quick)
	result := sign(key)
	request := asked(t, link)
	if err := keywire.Send(link, keywire.Refused{Epoch: request.Epoch, ID: request.ID, Reason: keywire.Document}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if got := <-result; got.err == nil || !strings.Contains(got.err.Error(), keywire.Document.String()) {
		t.Errorf("got %q, %v", got.signature, got.err)
	}
}

func TestRequestIsSentAgainWithItsID(t *testing.T) {
	_, key, link := puppet(t, quick)
	result := sign(key)
	first, again := asked(t, link), asked(t, link)
	if first.ID != again.ID || first.Epoch != again.Epoch {
		t.Errorf("sent %+v, and again %+v", first, again)
	}
	if err := keywire.Send(link, keywire.Signed{Epoch: first.Epoch, ID: first.ID, Signature: []byte{1}}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if got := <-result; got.err != nil {
		t.Error(got.err)
	}
}

func TestStalledKeeper(t *testing.T) {
	limits := quick
	limits.giveUp = 60 * time.Millisecond
	core, link := linked(t)
	stop := newSafe(t, "a.test").serve(t, link)
	k := opened(t, core, 1, quick)
	stop()
	k.limits = limits
	key := keyOf(k)
	// More than there are slots: those that wait for one give up, too.
	var results []<-chan signed
	for range slotsMax + 10 {
		results = append(results, sign(key))
	}
	for _, result := range results {
		if got := <-result; !errors.Is(got.err, ErrStalled) {
			t.Fatalf("got %q, %v", got.signature, got.err)
		}
	}
	if len(k.free) != slotsMax {
		t.Errorf("%d of %d slots are free again", len(k.free), slotsMax)
	}
}

func TestCloseEndsSignatures(t *testing.T) {
	k, key, link := puppet(t, quick)
	result := sign(key)
	asked(t, link)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if got := <-result; !errors.Is(got.err, ErrClosed) {
		t.Errorf("got %q, %v", got.signature, got.err)
	}
}
