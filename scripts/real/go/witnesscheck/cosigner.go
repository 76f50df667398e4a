package main

import (
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Types of cosigners' keys in a verifier key.
const (
	typeEd25519 = 0x04
	typeMLDSA44 = 0x06
)

// maxClockSeconds is how far the witness's clock may be from ours: both are on one machine.
const maxClockSeconds = 60

// cosigner verifies timestamped cosignatures as c2sp.org/tlog-cosignature has them; a note.Verifier.
type cosigner struct {
	name   string
	hash   uint32
	kind   byte
	public []byte
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

// Verify reports whether a signature is one of the whole tree that the text names, made just now or not long ago.
func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) < 8 {
		return false
	}
	stamp, signature := binary.BigEndian.Uint64(signature), signature[8:]
	now := uint64(time.Now().Unix())
	if stamp < now-maxClockSeconds || stamp > now+maxClockSeconds {
		return false
	}
	if c.kind == typeEd25519 {
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", stamp, text)
		return ed25519.Verify(c.public, []byte(message), signature)
	}
	message, err := subtreeMessage(c.name, stamp, string(text))
	if err != nil {
		return false
	}
	key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), c.public)
	return err == nil && mldsa.Verify(key, message, signature, nil) == nil
}

// subtreeMessage returns what an ML-DSA-44 cosigner signs of a checkpoint.
func subtreeMessage(name string, stamp uint64, text string) ([]byte, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || len(name) > 255 || len(lines[0]) > 255 {
		return nil, fmt.Errorf("not a checkpoint: %q", text)
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return nil, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return nil, err
	}
	message := []byte("subtree/v1\n\x00")
	message = append(append(message, byte(len(name))), name...)
	message = binary.BigEndian.AppendUint64(message, stamp)
	message = append(append(message, byte(len(lines[0]))), lines[0]...)
	message = binary.BigEndian.AppendUint64(message, 0)
	message = binary.BigEndian.AppendUint64(message, size)
	return append(message, root[:]...), nil
}

// newCosigner reads a verifier key; its ID must be that of the key.
func newCosigner(vkey string) (*cosigner, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, encoded, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("the cosigner's key %q is not one", vkey)
	}
	lengths := map[byte]int{typeEd25519: ed25519.PublicKeySize, typeMLDSA44: mldsa.MLDSA44().PublicKeySize()}
	if lengths[key[0]] != len(key)-1 {
		return nil, fmt.Errorf("the cosigner's key %q has type %d and %d bytes", vkey, key[0], len(key)-1)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != id {
		return nil, fmt.Errorf("the cosigner's key %q has the ID %s, expected %08x", vkey, id, hash)
	}
	return &cosigner{name, hash, key[0], key[1:]}, nil
}

func newCosigners(vkeys []string) ([]note.Verifier, error) {
	var found []note.Verifier
	for _, vkey := range vkeys {
		one, err := newCosigner(vkey)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("give at least one -cosigner")
	}
	return found, nil
}

// openCosigned opens a note that the log and every cosigner signed, nobody else, and returns its text.
func openCosigned(body []byte, log note.Verifier, cosigners []note.Verifier) (string, error) {
	opened, err := note.Open(body, note.VerifierList(append([]note.Verifier{log}, cosigners...)...))
	if err != nil {
		return "", err
	}
	if len(opened.Sigs) != 1+len(cosigners) || len(opened.UnverifiedSigs) != 0 {
		return "", fmt.Errorf("%d keys signed and %d lines are of others; expected the log, %d cosigners and nobody else",
			len(opened.Sigs), len(opened.UnverifiedSigs), len(cosigners))
	}
	return opened.Text, nil
}
