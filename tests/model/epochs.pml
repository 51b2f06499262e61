/* The end of an epoch for an exhaustive check: rosters of four peers that follow each other, a liar on each of them,
   and a gateway that signs what it likes.

   spin -a epochs.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan -m1000000

   Rosters, the liar L aside: A B C, then A D E, then, with -DEPOCHS=3, B C F. D, E and F begin with empty copies; B and C
   miss an epoch. Votes and freezes count in their epoch, by 3 of 4. The gateway signs two histories, 1 and 2, and shows
   each peer whichever block it likes, in any order. L signs every vote and every freeze in every epoch, with any tip.
   What a peer says it has stored before: both are one step here, for a peer that a power cut keeps from saying what it
   has stored only says less, which breaks no promise (see ledger.pml for the two apart).

   The rule:
     open     A peer is open in the first epoch; and in a later one when it has seen a closing of the epoch before, and
              holds every block that a tip in that closing names: so never, where these are of two histories.
     vote     In the last epoch that it is open in, unless it froze that: for the block behind its tip; and when it opens,
              for all blocks that it holds.
     freeze   An epoch that it is open in, once, with its tip: because the epoch ends; or because the gateway signed two
              histories, or the recovery key asked. After the latter a peer votes in no epoch, and opens none; it may
              freeze so in a later epoch too, having seen 3 of 4 freezes, for whatever reasons, of the epoch before.
     closing  Of an epoch: freezes by 3 of 4, because it ends. Of the incarnation: freezes by 3 of 4 in one epoch, none of
              them because it ends; with it go 3 of 4 freezes of each epoch before, back to a closing of an epoch.

   Checked after every step:
     one history  no two certificates for different histories, over all epochs, at whatever heights
     one vote     no honest peer says two votes at a height, over all epochs
     own          freezes by 3 of 4 in an epoch have a tip above each certificate of this epoch
     closed       a closing of an epoch has a tip above each certificate of this epoch and of those before
     ended        a closing of the incarnation has a tip above each certificate of its epoch and of those after: with
                  what goes with it, above everything that is ever final

   With -DMUTANT=n the rule is broken in one place, and a check must fail:
     1 a new peer votes before it holds the blocks   2 an epoch opens without a closing   3 a frozen peer goes on voting
     4 the lowest tip of a closing is enough         5 the highest tip of a closing is enough (HEIGHTS=3)
     6 a second freeze, for another reason           7 a peer freezes an epoch without holding the blocks (EPOCHS=3)
     8 nothing goes with the closing of an incarnation

   Two states that differ only in which of B and C is which, or of D and E, are one: after each step they are put in
   order. And the history that an honest peer keeps a block of first is called 1.                                   */

#ifndef MUTANT
#define MUTANT 0
#endif
#ifndef HEIGHTS
#define HEIGHTS 2
#endif
#ifndef EPOCHS
#define EPOCHS 2
#endif
#if EPOCHS == 2
#define HONEST 5
#define SOMEBODY (held[0] | held[1] | held[2] | held[3] | held[4])
#define OVER_ALL(list, peer) (list[OF(peer, 0)] | list[OF(peer, 1)])
#define UP_TO(epoch) (FINAL(0) | ((epoch) > 0 -> FINAL(1) : 0))
#define SINCE(epoch) (FINAL(1) | ((epoch) < 1 -> FINAL(0) : 0))
#else
#define HONEST 6
#define SOMEBODY (held[0] | held[1] | held[2] | held[3] | held[4] | held[5])
#define OVER_ALL(list, peer) (list[OF(peer, 0)] | list[OF(peer, 1)] | list[OF(peer, 2)])
#define UP_TO(epoch) (FINAL(0) | ((epoch) > 0 -> FINAL(1) : 0) | ((epoch) > 1 -> FINAL(2) : 0))
#define SINCE(epoch) (FINAL(2) | ((epoch) < 2 -> FINAL(1) : 0) | ((epoch) < 1 -> FINAL(0) : 0))
#endif

/* the three honest peers of an epoch: 0 1 2, 0 3 4, 1 2 5 */
#define ON(epoch, n) ((epoch) == 0 -> (n) : ((epoch) == 1 -> ((n) == 0 -> 0 : (n) + 2) : ((n) == 2 -> 5 : (n) + 1)))
#define MEMBER(peer, epoch) ((peer) == ON(epoch, 0) || (peer) == ON(epoch, 1) || (peer) == ON(epoch, 2))
#define OF(peer, epoch) ((peer) * EPOCHS + (epoch))

/* Blocks are bits: history 1 from bit 0 on, history 2 from bit HEIGHTS on; a tip is all bits up to it. */
#define FIRST ((1 << HEIGHTS) - 1)
#define BOTH(blocks) (((blocks) & FIRST) && ((blocks) >> HEIGHTS))
#define FORK(blocks) ((blocks) & FIRST & ((blocks) >> HEIGHTS))

/* what an honest peer did in an epoch, as bits */
#define ENDING 1   /* it froze because the epoch ends */
#define FOR_GOOD 2 /* it froze for another reason */
#define OPENED 4

byte held[HONEST];          /* the blocks of a peer's copy */
byte term[HONEST];          /* 1 + the last epoch that it opened, 0 for none */
byte did[HONEST * EPOCHS];
byte said[HONEST * EPOCHS]; /* the blocks that it said votes for */
byte tip[HONEST * EPOCHS];  /* the blocks up to the tip that it froze with */

#define FROZE(n, epoch, why) ((did[OF(ON(epoch, n), epoch)] & (why)) != 0)
#define SAID(n, epoch) said[OF(ON(epoch, n), epoch)]
#define TIP(n, epoch) tip[OF(ON(epoch, n), epoch)]
#define FROZEN (ENDING | FOR_GOOD)
#define DEAD(peer) (OVER_ALL(did, peer) & FOR_GOOD)

/* Two of the honest and the liar are a certificate, and a closing. */
#define TWO(a, b, c) (((a) & (b)) | ((a) & (c)) | ((b) & (c)))
#define FINAL(epoch) TWO(SAID(0, epoch), SAID(1, epoch), SAID(2, epoch))
#define CLOSED(epoch, why) TWO(FROZE(0, epoch, why), FROZE(1, epoch, why), FROZE(2, epoch, why))

#define BELOW(n, m, epoch, blocks) (!((blocks) & ~(TIP(n, epoch) | TIP(m, epoch))))
#define BOTH_FROZE(n, m, epoch, why) (FROZE(n, epoch, why) && FROZE(m, epoch, why))
#if MUTANT == 8
#define NAMED(epoch) SINCE(0)
#else
#define NAMED(epoch) SINCE(epoch)
#endif
#define CLOSING(n, m, epoch) \
    assert(!BOTH_FROZE(n, m, epoch, FROZEN) || BELOW(n, m, epoch, FINAL(epoch)));  /* own */ \
    assert(!BOTH_FROZE(n, m, epoch, ENDING) || BELOW(n, m, epoch, UP_TO(epoch)));  /* closed */ \
    assert(!BOTH_FROZE(n, m, epoch, FOR_GOOD) || BELOW(n, m, epoch, NAMED(epoch))) /* ended */
#define CLOSINGS(epoch) CLOSING(0, 1, epoch); CLOSING(0, 2, epoch); CLOSING(1, 2, epoch)

inline check() {
    d_step {
        assert(!BOTH(SINCE(0)));                                                               /* one history */
        assert(!FORK(OVER_ALL(said, 0)) && !FORK(OVER_ALL(said, 1)) && !FORK(OVER_ALL(said, 2))
            && !FORK(OVER_ALL(said, 3)) && !FORK(OVER_ALL(said, 4)));                          /* one vote */
        CLOSINGS(0);
        CLOSINGS(1);
#if EPOCHS == 3
        assert(!FORK(OVER_ALL(said, 5)));
        CLOSINGS(2);
#endif
    }
}

hidden int key1, key2, key3, key4;
hidden byte spare, at;
#define SWAP(list, i, j) spare = list[i]; list[i] = list[j]; list[j] = spare

#define KEY(peer, epoch) (held[peer] | (term[peer] << 8) | (did[OF(peer, epoch)] << 12) | (said[OF(peer, epoch)] << 16))
inline sort(p, q, first, last) {
    d_step {
        key1 = KEY(p, first); key2 = KEY(q, first);
        key3 = tip[OF(p, first)] | (tip[OF(p, last)] << 8) | (said[OF(p, last)] << 16) | (did[OF(p, last)] << 24);
        key4 = tip[OF(q, first)] | (tip[OF(q, last)] << 8) | (said[OF(q, last)] << 16) | (did[OF(q, last)] << 24);
        if
        :: key1 > key2 || (key1 == key2 && key3 > key4) ->
            SWAP(held, p, q);
            SWAP(term, p, q);
            at = 0;
            do
            :: at < EPOCHS ->
                SWAP(did, OF(p, at), OF(q, at));
                SWAP(said, OF(p, at), OF(q, at));
                SWAP(tip, OF(p, at), OF(q, at));
                at++
            :: else -> break
            od
        :: else
        fi;
        key1 = 0; key2 = 0; key3 = 0; key4 = 0; spare = 0; at = 0
    }
}

/* an epoch that this peer is to open, or may freeze for good without */
#define AHEAD(peer, epoch) ((epoch) > 0 && MEMBER(peer, epoch) && term[peer] <= (epoch))
#define DONE(peer) (term[peer] == 0 || (did[OF(peer, term[peer] - 1)] & FROZEN))
#define ROOM(peer) ((held[peer] & FIRST) < FIRST && held[peer] < FIRST << HEIGHTS)
#if MUTANT == 3
#define VOTES(peer, epoch) (term[peer] == (epoch) + 1)
#else
#define VOTES(peer, epoch) (term[peer] == (epoch) + 1 && !(did[OF(peer, epoch)] & FROZEN) && !DEAD(peer))
#endif
#if MUTANT == 2
#define OPENS(peer, epoch) (AHEAD(peer, epoch) && !DEAD(peer))
#else
#define OPENS(peer, epoch) (AHEAD(peer, epoch) && !DEAD(peer) && CLOSED((epoch) - 1, ENDING))
#endif
#if MUTANT == 6
#define FREEZES(peer, epoch, why) (!(did[OF(peer, epoch)] & (why)))
#else
#define FREEZES(peer, epoch, why) (!(did[OF(peer, epoch)] & FROZEN) && ((why) == FOR_GOOD || !DEAD(peer)))
#endif
#define HAS_OPENED(peer, epoch) (did[OF(peer, epoch)] & OPENED)
#define MAY_KNOW(peer, epoch) (HAS_OPENED(peer, epoch) || (AHEAD(peer, epoch) && CLOSED((epoch) - 1, FROZEN)))
#if MUTANT == 4
#define WITH &
#else
#define WITH |
#endif
#define TIPS(n, m) \
    BOTH_FROZE(n, m, epoch - 1, ENDING) -> blocks = TIP(n, epoch - 1) WITH TIP(m, epoch - 1)

inline keep() { /* the block behind the tip, of either history when there is none */
    if
    :: held[me] == 0 -> blocks = 1
    :: held[me] == 0 && SOMEBODY -> blocks = 1 << HEIGHTS
    :: (held[me] & FIRST) -> blocks = held[me] + 1
    :: (held[me] >> HEIGHTS) -> blocks = held[me] + (1 << HEIGHTS)
    fi;
    held[me] = held[me] | blocks
}

inline lie() { /* the liar's tip */
    select(lies : 0 .. 2 * HEIGHTS);
    if
    :: lies <= HEIGHTS -> lies = (1 << lies) - 1
    :: else -> lies = ((1 << (lies - HEIGHTS)) - 1) << HEIGHTS
    fi;
    blocks = blocks WITH lies
}

inline freeze(why) {
    if
    :: !(did[OF(me, epoch)] & FROZEN) -> tip[OF(me, epoch)] = held[me]
    :: else
    fi;
    did[OF(me, epoch)] = did[OF(me, epoch)] | why
}

active proctype world() {
    byte me, epoch, blocks, lies;
    atomic {
        do
        :: me < 3 -> term[me] = 1; did[OF(me, 0)] = OPENED; me++
        :: else -> me = 0; break
        od
    }
    do
    :: atomic {
        select(me : 0 .. HONEST - 1);
        select(epoch : 0 .. EPOCHS - 1);
        if
        :: VOTES(me, epoch) && ROOM(me) -> /* vote */
            keep();
            said[OF(me, epoch)] = said[OF(me, epoch)] | blocks
        :: AHEAD(me, epoch) && DONE(me) && !DEAD(me) && ROOM(me) -> /* catch up */
            keep()
        :: OPENS(me, epoch) -> /* open */
#if MUTANT != 2
            if
            :: TIPS(0, 1); lie()
            :: TIPS(0, 2); lie()
            :: TIPS(1, 2); lie()
            :: FROZE(2, epoch - 1, ENDING) && TIPS(0, 1) WITH TIP(2, epoch - 1)
            fi;
#if MUTANT == 5
            if /* blocks of two histories prove nothing when others are missing between them */
            :: (blocks & FIRST) > (blocks >> HEIGHTS) * 2 + 1 -> blocks = blocks & FIRST
            :: (blocks >> HEIGHTS) > (blocks & FIRST) * 2 + 1 -> blocks = blocks & ~FIRST
            :: else
            fi;
#endif
            if
#if MUTANT == 1
            :: term[me] == 0
            :: term[me] > 0 && (BOTH(blocks) || (blocks & ~held[me])) -> goto next
#else
            :: BOTH(blocks) || (blocks & ~held[me]) -> goto next
#endif
            :: else
            fi;
#endif
            term[me] = epoch + 1;
            did[OF(me, epoch)] = did[OF(me, epoch)] | OPENED;
            said[OF(me, epoch)] = held[me]
#if MUTANT == 7
        :: MAY_KNOW(me, epoch) && FREEZES(me, epoch, ENDING) -> freeze(ENDING)
#else
        :: HAS_OPENED(me, epoch) && FREEZES(me, epoch, ENDING) -> freeze(ENDING)
#endif
        :: MAY_KNOW(me, epoch) && FREEZES(me, epoch, FOR_GOOD) -> freeze(FOR_GOOD)
        :: else -> goto next
        fi;
        check();
        sort(1, 2, 0, EPOCHS - 1);
        sort(3, 4, 1, 1);
next:
        me = 0; epoch = 0; blocks = 0; lies = 0 /* what was looked at is no part of the state */
    }
    od
}
