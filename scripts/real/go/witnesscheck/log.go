package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// log is an append-only log in memory. Its origin is its key's name.
type log struct {
	signer note.Signer
	size   int64
	hashes hashes
	branch string
}

// hashes are the stored hashes of a tree, in the order of tlog.StoredHashIndex.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, 0, len(indexes))
	for _, index := range indexes {
		found = append(found, h[index])
	}
	return found, nil
}

func newLog(skey string) (*log, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("the log's key: %w", err)
	}
	return &log{signer: signer}, nil
}

// grow appends records until the log has a size.
func (l *log) grow(size int64) error {
	for ; l.size < size; l.size++ {
		more, err := tlog.StoredHashes(l.size, fmt.Appendf(nil, "record %d%s", l.size, l.branch), l.hashes)
		if err != nil {
			return err
		}
		l.hashes = append(l.hashes, more...)
	}
	return nil
}

// checkpoint signs the tree as it is.
func (l *log) checkpoint() ([]byte, error) {
	root, err := tlog.TreeHash(l.size, l.hashes)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.signer.Name(), l.size, root)
	return note.Sign(&note.Note{Text: text}, l.signer)
}

// prove returns the proof that the log only grew since a size; there is none to give from nothing and from itself.
func (l *log) prove(old int64) (tlog.TreeProof, error) {
	if old == 0 || old == l.size {
		return nil, nil
	}
	return tlog.ProveTree(l.size, old, l.hashes)
}

// logVerifier returns the public half of a log's private key.
func logVerifier(skey string) (note.Verifier, error) {
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return nil, fmt.Errorf("the log's key is not one")
	}
	key, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return nil, fmt.Errorf("the log's key is not one of Ed25519")
	}
	public := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(parts[2], public)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(vkey)
}
