package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is the height of all tiles of tlog-tiles; x/mod names it in its paths, tlog-tiles does not.
const tileHeight = 8

// tiledLog reads a C2SP tlog-tiles log over HTTP; it is a tlog.TileReader.
type tiledLog struct {
	url string
}

func (l tiledLog) Height() int { return tileHeight }

// SaveTiles keeps nothing: every proof reads its tiles anew.
func (l tiledLog) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles reads tiles; x/mod checks them against the tree that was signed.
func (l tiledLog) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	bodies := make([][]byte, len(tiles))
	for at, tile := range tiles {
		body, err := l.get(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		bodies[at] = body
	}
	return bodies, nil
}

// entry reads one record out of its bundle.
func (l tiledLog) entry(index, size int64) ([]byte, error) {
	bundle := tlog.Tile{H: tileHeight, L: -1, N: index >> tileHeight, W: 1 << tileHeight}
	if width := size - bundle.N<<tileHeight; width < 1<<tileHeight {
		bundle.W = int(width)
	}
	body, err := l.get(strings.Replace(bundle.Path(), "tile/8/data/", "tile/entries/", 1))
	if err != nil {
		return nil, err
	}
	for at := int64(0); ; at++ {
		if len(body) < 2 {
			return nil, fmt.Errorf("bundle %d has no entry %d", bundle.N, at)
		}
		length := int(binary.BigEndian.Uint16(body))
		if len(body) < 2+length {
			return nil, fmt.Errorf("bundle %d is cut short", bundle.N)
		}
		if at == index&(1<<tileHeight-1) {
			return body[2 : 2+length], nil
		}
		body = body[2+length:]
	}
}

func (l tiledLog) get(path string) ([]byte, error) {
	answer, err := http.Get(l.url + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// tree reads the checkpoint, and checks that the log and all cosigners signed it.
func (l tiledLog) tree(log note.Verifier, cosigners []note.Verifier) (tlog.Tree, error) {
	body, err := l.get("checkpoint")
	if err != nil {
		return tlog.Tree{}, err
	}
	text, err := openCosigned(body, log, cosigners)
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] != log.Name() {
		return tlog.Tree{}, fmt.Errorf("expected a checkpoint of %s, found %q", log.Name(), text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, fmt.Errorf("root %q is no hash", lines[2])
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}

// readLog checks a tiled log: its checkpoint, so many of its records, and as many of its earlier trees.
func readLog(given options) error {
	log, err := note.NewVerifier(given.log)
	if err != nil {
		return fmt.Errorf("the log's key: %w", err)
	}
	cosigners, err := newCosigners(given.cosigners)
	if err != nil {
		return err
	}
	tiles := tiledLog{given.url}
	tree, err := tiles.tree(log, cosigners)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, tiles)
	step := max(1, tree.N/max(1, given.records))
	records, trees := 0, 0
	for index := int64(0); index < tree.N; index += step {
		if err := checkRecord(tiles, hashes, tree, index); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		records++
		if err := checkEarlier(hashes, tree, index+1); err != nil {
			return fmt.Errorf("tree of %d records: %w", index+1, err)
		}
		trees++
	}
	fmt.Printf("size %d: %d records and %d earlier trees proven\n", tree.N, records, trees)
	return nil
}

func checkRecord(tiles tiledLog, hashes tlog.HashReader, tree tlog.Tree, index int64) error {
	entry, err := tiles.entry(index, tree.N)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveRecord(tree.N, index, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

func checkEarlier(hashes tlog.HashReader, tree tlog.Tree, size int64) error {
	root, err := tlog.TreeHash(size, hashes)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(tree.N, size, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, size, root)
}
