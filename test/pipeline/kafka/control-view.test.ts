import { describe, expect, it } from 'vitest';
import { ControlView } from '../../../src/pipeline/kafka/control-view.ts';

describe('the view of the control topic', () => {
  it('shows the newest record of a key, whatever the order they come in', () => {
    const view = new ControlView();
    expect(view.apply('epoch', '{"epoch":2}', 7n)).toBe(true);
    expect(view.apply('epoch', '{"epoch":1}', 3n)).toBe(false);
    expect(view.get('epoch')).toEqual({ epoch: 2 });
  });

  it('does not say that something changed when its own record comes by', () => {
    const view = new ControlView();
    view.apply('a', '1', 5n);
    expect(view.apply('a', '1', 5n)).toBe(false);
  });

  it('forgets a removed key and does not let an older record bring it back', () => {
    const view = new ControlView();
    view.apply('a', '1', 1n);
    expect(view.apply('a', null, 3n)).toBe(true);
    expect(view.apply('a', '2', 2n)).toBe(false);
    expect(view.get('a')).toBeUndefined();
    expect(view.apply('b', null, 4n)).toBe(false);
  });

  it('lists the keys of a beginning in order, and no others', () => {
    const view = new ControlView();
    ['b/2', 'b/10', 'a', 'b/1', 'bb'].forEach((key, index) => view.apply(key, String(index), BigInt(index)));
    expect(view.entries('b/')).toEqual([['b/1', 3], ['b/10', 1], ['b/2', 0]]);
  });

  it('keeps what it had when a record is no JSON', () => {
    const view = new ControlView();
    view.apply('a', '1', 1n);
    expect(() => view.apply('a', '{', 2n)).toThrow(SyntaxError);
    expect(view.get('a')).toBe(1);
  });

  it('starts again at lower offsets after the topic was made anew', () => {
    const view = new ControlView();
    view.apply('a', '1', 100n);
    expect(view.clear()).toEqual(['a']);
    expect(view.apply('a', '2', 0n)).toBe(true);
  });
});
